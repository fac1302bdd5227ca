//! Reads, writes, deletes and lists. What may be reached at all is the boundary's to say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::call::{Call, Ended};
use crate::codec::Encoder;
use crate::message::{CHUNK, Finish};
use crate::serve::Refusal;

/// The largest file that may be written, and the longest list of a folder, in bytes: they are
/// kept in memory.
const WHOLE_MAX: u64 = 32 * 1024 * 1024;

pub(crate) fn read(call: &Call, path: &Path, max_bytes: u64) -> Result<Finish, Refusal> {
    let refuse = |error: io::Error| Refusal::at("read", path, &error);
    let file = open(path, OpenOptions::new().read(true)).map_err(refuse)?;
    if file.metadata().map_err(refuse)?.len() > max_bytes {
        return Err(too_big("read", path, max_bytes));
    }
    let mut file = file.take(max_bytes.saturating_add(1));
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(Finish::Done),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(refuse(error)),
        };
        sent += count as u64;
        // It has grown since it was looked at.
        if sent > max_bytes {
            return Err(too_big("read", path, max_bytes));
        }
        if call.send_all(buffer.get(..count).unwrap_or_default()) == Err(Ended) {
            return Ok(Finish::Stopped);
        }
    }
}

pub(crate) fn write(call: &Call, path: &Path, length: u64) -> Result<Finish, Refusal> {
    if length > WHOLE_MAX {
        return Err(too_big("write", path, WHOLE_MAX));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // Whole before the file is touched: a channel that ends midway leaves it as it was.
    let content = match call.whole_input(length) {
        Ok(Some(content)) => content,
        Ok(None) => return Err(Refusal::new(libc::EINVAL, "the content has another length")),
        Err(Ended) => return Ok(Finish::Stopped),
    };
    let refuse = |error: io::Error| Refusal::at("write", path, &error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(refuse)?;
    }
    let mut file = open(path, OpenOptions::new().write(true).create(true)).map_err(refuse)?;
    file.set_len(0).and_then(|()| file.write_all(&content)).map_err(refuse)?;
    Ok(Finish::Done)
}

pub(crate) fn delete(path: &Path) -> Result<Finish, Refusal> {
    fs::remove_file(path).map_err(|error| Refusal::at("delete", path, &error))?;
    Ok(Finish::Done)
}

pub(crate) fn list(call: &Call, path: &Path) -> Result<Finish, Refusal> {
    let refuse = |error: io::Error| Refusal::at("list", path, &error);
    let mut entries =
        fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(refuse)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut answer = Encoder(Vec::new());
    for entry in entries {
        // Gone since it was named: as if it had not been there.
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        answer.u8(match () {
            () if kind.is_file() => 0,
            () if kind.is_dir() => 1,
            () if kind.is_symlink() => 2,
            () => 3,
        });
        answer.u64(metadata.len());
        answer.text(entry.file_name().as_bytes());
    }
    if answer.0.len() as u64 > WHOLE_MAX {
        return Err(too_big("list", path, WHOLE_MAX));
    }
    Ok(call.send_all(&answer.0).map_or(Finish::Stopped, |()| Finish::Done))
}

/// Opens a regular file. A FIFO or a device is refused without waiting for its other side.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

fn too_big(step: &str, path: &Path, max: u64) -> Refusal {
    let text = format!("cannot {step} `{}`: it has more than {max} bytes", path.display());
    Refusal::new(libc::EFBIG, text)
}
