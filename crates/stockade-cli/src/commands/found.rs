//! Which files a command line would start, as the boundary will look for them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use stockade_agents::{INTERPRETERS, programs};
use stockade_config::Loaded;
use stockade_policy::{AbsPath, Mode, Policy};

/// Folders that every run has for itself.
const PRIVATE: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// The program and, where that is an interpreter, the file that it is given; `None` when one of
/// them is not found.
pub(super) fn files(program: &OsStr, words: &[OsString], loaded: &Loaded) -> Option<Vec<PathBuf>> {
    let folder = loaded.policy.workspace.as_path();
    let program = find(program, loaded)?;
    let is_interpreter =
        program.file_name().is_some_and(|name| INTERPRETERS.iter().any(|known| name == *known));
    let mut files = vec![program];
    if is_interpreter {
        let script = folder.join(words.first()?);
        if script.is_file() {
            files.push(script);
        } else {
            // `npx NAME` looks in the project before anywhere else, and then where the user is
            // not asked: it is the user's only by the user's own `PATH`.
            files.push(find(words.first()?, loaded)?);
            let name = Path::new("node_modules/.bin").join(words.first()?);
            files
                .extend(folder.ancestors().map(|above| above.join(&name)).filter(|it| it.exists()));
        }
    }
    Some(files)
}

/// The file that `program` names: a path, or a name in the command's own `PATH`.
fn find(program: &OsStr, loaded: &Loaded) -> Option<PathBuf> {
    let path = loaded.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, path)| path.as_os_str());
    programs::find(program, (path, loaded.policy.workspace.as_path()))
}

/// Whether what runs inside could put another file in the place of `path`, or at a link by which
/// it is reached; or whether `path` is another file inside. `state` is shown inside.
pub(super) fn can_be_replaced(path: &Path, policy: &Policy, state: &[PathBuf]) -> bool {
    if policy.mode == Mode::DangerFullAccess {
        return false;
    }
    let Some(mut way) = stockade_config::way_to(path) else { return true };
    way.push(path.to_owned());
    way.iter().any(|place| {
        let is_in = |folders: &[AbsPath]| folders.iter().any(|it| place.starts_with(it.as_path()));
        // Private folders are others inside, and what is hidden is not there.
        let is_private = PRIVATE.iter().any(|it| place.starts_with(it));
        let is_shown = state.iter().any(|it| place.starts_with(it)) || is_in(&policy.readable);
        let is_cached = is_in(&policy.caches) && !is_in(&policy.protected);
        is_in(&policy.writable) || is_cached || is_private || (is_in(&policy.hidden) && !is_shown)
    })
}
