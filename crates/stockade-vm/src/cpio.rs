//! Writes the archive of an initial file system: cpio, "newc", not compressed (it is read once,
//! from memory). Format: `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// What the archive consists of.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    out: Vec<u8>,
    count: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

impl Archive {
    pub(crate) fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, (0, 0), &[]);
    }

    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, (0, 0), content);
    }

    /// The console's device, without which PID 1 is started with its descriptors closed.
    pub(crate) fn console(&mut self) {
        self.folder("dev");
        self.entry("dev/console", DEVICE, (5, 1), &[]);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.out
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.count += 1;
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let fields = [
            self.count,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            length(content.len()),
            0, // device it is on, major and minor
            0,
            device.0,
            device.1,
            length(name.len() + 1),
            0, // checksum
        ];
        self.out.extend(b"070701");
        for field in fields {
            self.out.extend(format!("{field:08x}").bytes());
        }
        self.out.extend(name.bytes().chain([0]));
        self.pad();
        self.out.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.folder("a");
        archive.file("a/b", b"hello");
        let text = String::from_utf8(archive.finish()).unwrap();
        // Magic, number, mode, user, group, links, time, length, device, own device, name, sum.
        let first = "070701 00000001 000041ed 00000000 00000000 00000001 00000000 00000000 \
                     00000000 00000000 00000000 00000000 00000002 00000000 a";
        let first = first.replace(' ', "") + "\x00";
        assert_eq!(text.get(..first.len()), Some(first.as_str()));
        let rest = text.get(first.len()..).unwrap();
        assert!(rest.starts_with("07070100000002000081ed"), "{rest}");
        assert!(rest.contains("a/b\0\0\0hello\0\0\x00070701"), "{rest}");
        assert!(rest.ends_with("TRAILER!!!\0\0\0\0"), "{rest}");
        assert_eq!(text.len() % 4, 0);
    }
}
