//! The guest's kernel: found among the host's, and unpacked.
//!
//! A distribution's kernel is a program that unpacks another one. QEMU's `microvm` starts the
//! inner one directly (an ELF file with a PVH note), which saves the unpacking at every boot. The
//! host need not run the kernel itself.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Key};
use crate::tool::{self, ToolError};

/// No kernel for a guest could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// There is none with its modules.
    #[error("there is no kernel for the machine in `/boot` or `/lib/modules`")]
    Missing,
    /// There is one, but this user may not read it.
    #[error("the kernel `{}` is not readable for this user", .0.display())]
    Unreadable(PathBuf),
    /// It is not what Linux looks like on this architecture.
    #[error("`{}` is not a kernel that can be unpacked: {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It lacks something that a guest needs.
    #[error("the kernel {release} has no `{module}`")]
    NoModule {
        /// The kernel's release.
        release: String,
        /// The module.
        module: String,
    },
    /// A program that unpacks failed.
    #[error("cannot unpack the kernel or its modules")]
    Tool(#[from] ToolError),
    /// A file could not be read or written.
    #[error("cannot prepare the kernel")]
    Io(#[from] io::Error),
}

impl KernelError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing | Self::Foreign { .. } | Self::NoModule { .. } => {
                Some("`sudo apt install linux-image-cloud-amd64`".to_owned())
            }
            Self::Unreadable(path) => Some(format!(
                "`sudo chmod a+r {}`, or `sudo apt install linux-image-cloud-amd64`",
                path.display()
            )),
            Self::Tool(ToolError::Missing(name)) => {
                let package = if *name == "xz" { "xz-utils" } else { name };
                Some(format!("`sudo apt install {package}`"))
            }
            Self::Tool(_) | Self::Io(_) => None,
        }
    }
}

/// A kernel of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The best of the host's.
    pub(crate) fn find() -> Result<Self, KernelError> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/lib/modules").into_iter().flatten().flatten() {
            let modules = entry.path();
            let Ok(release) = entry.file_name().into_string() else { continue };
            if !modules.join("modules.dep").exists() {
                continue;
            }
            let places =
                [Path::new("/boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
            if let Some(image) = places.into_iter().find(|place| place.exists()) {
                found.push(Self { release, image, modules });
            }
        }
        found.sort_by(|a, b| preferred(&b.release, &a.release));
        let is_readable = |kernel: &&Self| File::open(&kernel.image).is_ok();
        match found.iter().find(is_readable) {
            Some(kernel) => Ok(kernel.clone()),
            None => Err(found
                .into_iter()
                .next()
                .map_or(KernelError::Missing, |kernel| KernelError::Unreadable(kernel.image))),
        }
    }

    /// What this kernel is called in a cache: another one after each update of its file.
    pub(crate) fn key(&self) -> io::Result<String> {
        let metadata = fs::metadata(&self.image)?;
        let mut key = Key::default();
        key.add_file(&self.image, &metadata);
        Ok(key.name())
    }

    /// The kernel proper, unpacked; `stop` is asked often.
    pub(crate) fn unpacked(
        &self,
        cache: &Cache,
        stop: &dyn Fn() -> bool,
    ) -> Result<PathBuf, KernelError> {
        let key = self.key()?;
        cache.file(("kernel", "elf"), (&key, 2), |file| self.unpack(file, stop))
    }

    fn unpack(&self, out: &mut File, stop: &dyn Fn() -> bool) -> Result<(), KernelError> {
        let foreign = |what| KernelError::Foreign { path: self.image.clone(), what };
        let mut image = File::open(&self.image)?;
        let mut start = vec![0; 4096];
        image.read_exact(&mut start)?;
        if start.starts_with(ELF) {
            image.rewind()?;
            io::copy(&mut image, out)?;
            return Ok(());
        }
        let payload = payload(&start).ok_or_else(|| foreign("it has no boot header"))?;
        image.seek(SeekFrom::Start(payload.start))?;
        let mut packed = tempfile::tempfile()?;
        io::copy(&mut (&mut image).take(payload.length), &mut packed)?;
        let mut magic = [0; 6];
        packed.rewind()?;
        packed.read_exact(&mut magic)?;
        let packing =
            Packing::of(&magic).ok_or_else(|| foreign("it is packed in an unknown way"))?;
        if packing.has_size_behind {
            packed.set_len(payload.length.saturating_sub(4))?;
        }
        packed.rewind()?;
        tool::decompress(packing.tool, (packed, out.try_clone()?), stop)?;
        let mut magic = [0; 4];
        out.rewind()?;
        out.read_exact(&mut magic)?;
        if magic != ELF {
            return Err(foreign("what it unpacks is no ELF file"));
        }
        Ok(())
    }
}

const ELF: &[u8] = b"\x7fELF";

/// Cloud kernels first, being small and made for virtual machines; then the latest.
fn preferred(a: &str, b: &str) -> Ordering {
    let is_cloud = |release: &str| release.contains("cloud") || release.contains("virtual");
    is_cloud(a).cmp(&is_cloud(b)).then_with(|| numbers(a).cmp(&numbers(b))).then_with(|| a.cmp(b))
}

fn numbers(release: &str) -> Vec<u64> {
    let runs = release.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map_while(|run| run.parse().ok()).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Payload {
    start: u64,
    length: u64,
}

/// Where a bzImage has its packed kernel, by its boot header (`Documentation/arch/x86/boot.rst`:
/// `setup_sects`, `HdrS`, `payload_offset`, `payload_length`).
fn payload(start: &[u8]) -> Option<Payload> {
    let number = |at: usize| {
        let bytes = start.get(at..at + 4)?;
        Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    if start.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // 0 means 4, for very old ones.
    let sectors = match *start.get(0x1f1)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let length = number(0x24c).filter(|length| *length > 0)?;
    Some(Payload { start: (sectors + 1) * 512 + number(0x248)?, length })
}

/// How a kernel or a module is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packing {
    magic: &'static [u8],
    tool: &'static str,
    /// The build puts the unpacked size behind the stream, except where it is a part of it.
    has_size_behind: bool,
}

const PACKINGS: [Packing; 4] = [
    Packing { magic: b"\x1f\x8b", tool: "gzip", has_size_behind: false },
    Packing { magic: b"\xfd7zXZ\0", tool: "xz", has_size_behind: true },
    Packing { magic: b"\x28\xb5\x2f\xfd", tool: "zstd", has_size_behind: true },
    Packing { magic: b"\x02\x21\x4c\x18", tool: "lz4", has_size_behind: true },
];

impl Packing {
    fn of(start: &[u8]) -> Option<Self> {
        PACKINGS.into_iter().find(|packing| start.starts_with(packing.magic))
    }
}

/// A module's own bytes, unpacked when it is packed.
pub(crate) fn module(path: &Path) -> Result<Vec<u8>, KernelError> {
    let bytes = fs::read(path)?;
    let Some(packing) = Packing::of(&bytes) else { return Ok(bytes) };
    let mut out = tempfile::tempfile()?;
    // Small: nobody waits for one.
    tool::decompress(packing.tool, (File::open(path)?, out.try_clone()?), &|| false)?;
    out.rewind()?;
    let mut unpacked = Vec::new();
    out.read_to_end(&mut unpacked)?;
    out.flush()?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_kernels_and_later_ones_are_preferred() {
        let mut releases =
            ["6.1.0-9-amd64", "6.1.0-10-amd64", "5.10.0-2-cloud-amd64", "6.1.0-3-cloud-amd64"];
        releases.sort_by(|a, b| preferred(b, a));
        assert_eq!(
            releases,
            ["6.1.0-3-cloud-amd64", "5.10.0-2-cloud-amd64", "6.1.0-10-amd64", "6.1.0-9-amd64"]
        );
    }

    #[test]
    fn a_boot_header_says_where_the_kernel_is() {
        let mut image = vec![0; 0x250];
        assert_eq!(payload(&image), None);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(payload(&image), None, "nothing packed");
        image[0x1f1] = 39;
        image[0x248..0x24c].copy_from_slice(&716_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(payload(&image), Some(Payload { start: 40 * 512 + 716, length: 1000 }));
        image[0x1f1] = 0;
        assert_eq!(payload(&image), Some(Payload { start: 5 * 512 + 716, length: 1000 }));
        assert_eq!(payload(&image[..0x24e]), None);
    }

    #[test]
    fn packings_are_told_by_their_first_bytes() {
        assert_eq!(Packing::of(b"\x1f\x8b\x08").map(|packing| packing.tool), Some("gzip"));
        assert_eq!(Packing::of(b"\xfd7zXZ\0").map(|packing| packing.tool), Some("xz"));
        assert_eq!(Packing::of(b"\x7fELF"), None);
    }
}
