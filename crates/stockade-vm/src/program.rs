//! The image of a program that the system does not have: an agent that its user has installed for
//! themselves. Built once for what its files are now.

use std::path::PathBuf;

use crate::cache::{Bound, Cache, Key};
use crate::system::{ImageError, fits, write};
use crate::view::{Planted, add_to_key};

/// Changes with what this module would put into an image of the same files.
const VERSION: &[u8] = b"1";

/// Images that are kept: of as many programs, or versions of one.
const KEPT: Bound = Bound { files: 6, bytes: 8 << 30 };

/// Its file in the cache.
const NAME: (&str, &str) = ("program", "erofs");

/// Something of the host, and where the guest sees it below [`stockade_guest::PROGRAM_FOLDER`]; a link
/// as a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it is; absolute.
    pub from: PathBuf,
    /// Where it is seen; relative.
    pub to: PathBuf,
}

/// The image of `shown`; `None` when that is nothing.
pub(crate) fn image(
    cache: &Cache,
    shown: &[Shown],
    (stop, say): (&dyn Fn() -> bool, &mut dyn FnMut(String)),
) -> Result<Option<PathBuf>, ImageError> {
    if shown.is_empty() {
        return Ok(None);
    }
    let key = key(shown);
    let built = cache.file_unless(NAME, (&key, KEPT), stop, |file| {
        let mut planted = Planted::for_all();
        for Shown { from, to } in shown {
            planted.take_as(from, to);
        }
        let layout = planted.tree.laid_out();
        let bytes = fits(cache, layout.bytes())?;
        say(format!("building the image of the agent's program, once: {} MiB", bytes >> 20));
        write(&layout, file, stop, &mut |_part| ())?;
        // A file that was replaced between the plan and its copy would be torn.
        if self::key(shown) == key { Ok(()) } else { Err(ImageError::Unsteady) }
    });
    built?.ok_or(ImageError::Stopped).map(Some)
}

fn key(shown: &[Shown]) -> String {
    let mut key = Key::default();
    key.add(VERSION);
    for Shown { from, to } in shown {
        key.add(to.as_os_str().as_encoded_bytes());
        add_to_key(&mut key, from);
    }
    key.name()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_image_is_of_the_files_as_they_are_and_for_everybody() {
        let lab = tempfile::tempdir().unwrap();
        let own = lab.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("agent"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(own.join("agent"), fs::Permissions::from_mode(0o700)).unwrap();
        let cache = Cache::open(&lab.path().join("cache")).unwrap();
        let shown = [Shown { from: own.clone(), to: "bin".into() }];
        let built = |shown: &[Shown]| {
            let mut said = Vec::new();
            let image = image(&cache, shown, (&|| false, &mut |text| said.push(text))).unwrap();
            (image, said.len())
        };
        assert_eq!(built(&[]), (None, 0));
        let first = built(&shown);
        assert_eq!(first.1, 1);
        assert_eq!(built(&shown), (first.0.clone(), 0), "once");
        fs::write(own.join("agent"), "#!/bin/sh\ntrue\n").unwrap();
        assert_ne!(built(&shown).0, first.0);
        let mut planted = Planted::for_all();
        planted.take_as(&own, "bin".as_ref());
        let text = format!("{:?}", planted.tree);
        assert!(text.contains(&format!("mode: {}", 0o755)), "{text}");
        assert!(!text.contains(&format!("mode: {}", 0o700)), "{text}");
    }
}
