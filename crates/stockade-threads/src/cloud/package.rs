//! The files of an agent's program, so that a machine can have it: what the system's image has not.
//!
//! A program of an npm package is that package and what it depends on, nobody else's beside it; one of a
//! virtual environment of Python's is that environment; any other is its one file. A script's interpreter comes along where it is no part of the system either. Which
//! files those are says the user's own installation, and nothing of it is run here.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use stockade_agents::programs;
use stockade_guest::PROGRAM_FOLDER;
use stockade_vm::Shown;

/// What the image of the system has: see `stockade-vm`'s view.
const SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// The longest `package.json` that is read, in bytes.
const MANIFEST_MAX: u64 = 4 << 20;

/// Packages that one program depends on; more is a mistake.
const PACKAGES_MAX: usize = 5000;

/// As much of a script names its interpreter (execve(2)).
const SHEBANG_MAX: u64 = 256;

/// Where a folder of packages is below the program's folder, and where single files are.
const PACKAGES: &str = "node_modules";
const FILES: &str = "bin";
const VENV: &str = "venv";

/// A program as a machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What is shown of the host for it; nothing where the system has it.
    pub shown: Vec<Shown>,
    /// Where the machine has it.
    pub program: PathBuf,
    /// The script that is its first argument, where it is an interpreter.
    pub script: Option<PathBuf>,
    /// Whether single files were taken, and the machine's `PATH` has to have their folder.
    pub has_files: bool,
}

/// A program that no machine could have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// It is not there.
    #[error("`{0}` is not installed")]
    NotFound(String),
    /// It cannot be read.
    #[error("cannot read `{}`", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is run by something that a machine would not have.
    #[error("`{}` is run by `{interpreter}`, which is in no machine", program.display())]
    Interpreter {
        /// The script.
        program: PathBuf,
        /// What its first line names.
        interpreter: String,
    },
    /// Its dependencies have no end.
    #[error("`{}` depends on more than {PACKAGES_MAX} packages", .0.display())]
    TooMany(PathBuf),
}

impl PackageError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "install it, or give the path of its program: `--agent /PATH`",
            Self::Interpreter { .. } => {
                "a machine has what lies below `/usr`, npm packages, virtual environments of a Python \
                 there, and single files: install it so"
            }
            Self::Read(..) | Self::TooMany(_) => "install it anew",
        }
    }
}

/// Finds `program`, a name to be looked for in `path` or a path from `folder`.
///
/// # Errors
///
/// [`PackageError`].
pub fn package(program: &OsStr, (path, folder): (&OsStr, &Path)) -> Result<Package, PackageError> {
    let found = programs::find(program, (Some(path), folder));
    let found = found.ok_or_else(|| PackageError::NotFound(program.to_string_lossy().into()))?;
    let real = found.canonicalize().map_err(|error| PackageError::Read(found, error))?;
    let mut package = if is_of_system(&real) {
        Package { shown: Vec::new(), program: real.clone(), script: None, has_files: false }
    } else if let Some(root) = of_venv(&real) {
        return venv(&real, root);
    } else if let Some((root, own)) = of_npm(&real) {
        npm(&real, (&root, &own))?
    } else {
        let name = real.file_name().unwrap_or_default();
        let (to, program) = (Path::new(FILES).join(name), at(&Path::new(FILES).join(name)));
        let shown = vec![Shown { from: real.clone(), to }];
        Package { shown, program, script: None, has_files: true }
    };
    if let Some(file) = interpreter(&real, (path, folder))? {
        let to = Path::new(FILES).join(file.file_name().unwrap_or_default());
        let from = file.canonicalize().map_err(|error| PackageError::Read(file, error))?;
        package.shown.push(Shown { from, to });
        package.has_files = true;
    }
    Ok(package)
}

/// The folder of single files, in a machine.
pub(super) fn files() -> PathBuf {
    at(FILES.as_ref())
}

fn at(path: &Path) -> PathBuf {
    Path::new(PROGRAM_FOLDER).join(path)
}

fn is_of_system(path: &Path) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder))
}

/// The outermost folder of packages around `file`, and the package that it is of.
fn of_npm(file: &Path) -> Option<(PathBuf, PathBuf)> {
    let is_packages = |path: &&Path| path.file_name().is_some_and(|name| name == PACKAGES);
    let root = file.ancestors().skip(1).filter(is_packages).last()?;
    let inner = file.ancestors().skip(1).find(is_packages)?;
    let rest = file.strip_prefix(inner).ok()?;
    let is_scoped = rest.as_os_str().as_bytes().starts_with(b"@");
    let own: PathBuf = rest.components().take(if is_scoped { 2 } else { 1 }).collect();
    let own = inner.join(own);
    own.join("package.json").is_file().then(|| (root.to_owned(), own))
}

/// A package and what it depends on, as node looks for that: beside it, and further up.
fn npm(file: &Path, (root, own): (&Path, &Path)) -> Result<Package, PackageError> {
    let to = |path: &Path| Path::new(PACKAGES).join(path.strip_prefix(root).unwrap_or(path));
    let mut shown: Vec<PathBuf> = Vec::new();
    let (mut seen, mut open) = (HashSet::new(), vec![own.to_owned()]);
    while let Some(package) = open.pop() {
        if !seen.insert(package.clone()) {
            continue;
        }
        if seen.len() > PACKAGES_MAX {
            return Err(PackageError::TooMany(file.to_owned()));
        }
        shown.push(package.clone());
        for name in dependencies(&package)? {
            let Some(found) = resolve(&package, &name, root) else { continue };
            let is_link = found.symlink_metadata().is_ok_and(|data| data.is_symlink());
            let real = found.canonicalize().map_err(|e| PackageError::Read(found.clone(), e))?;
            if is_link {
                shown.push(found);
            }
            // What is linked from elsewhere is somebody's work, and no part of an installation.
            if real.starts_with(root) {
                open.push(real);
            }
        }
    }
    shown.sort();
    shown.dedup();
    let mut outermost: Vec<PathBuf> = Vec::new();
    for path in shown {
        if !outermost.last().is_some_and(|last| path.starts_with(last)) {
            outermost.push(path);
        }
    }
    let shown = outermost.into_iter().map(|from| Shown { to: to(&from), from }).collect();
    Ok(Package { shown, program: at(&to(file)), script: None, has_files: false })
}

/// The virtual environment that `file` is a program of (PEP 405).
fn of_venv(file: &Path) -> Option<&Path> {
    let root = file.parent()?.parent()?;
    let is_script = beginning(file, SHEBANG_MAX).is_ok_and(|start| start.starts_with(b"#!"));
    (is_script && root.join("pyvenv.cfg").is_file()).then_some(root)
}

/// A script names the environment's Python by where it is here, so the machine calls it by name. Python finds
/// the environment by its own place.
fn venv(file: &Path, root: &Path) -> Result<Package, PackageError> {
    let python = Path::new("bin/python");
    let here = root.join(python);
    let real = here.canonicalize().map_err(|error| PackageError::Read(here, error))?;
    if !is_of_system(&real) {
        let interpreter = real.display().to_string();
        return Err(PackageError::Interpreter { program: file.to_owned(), interpreter });
    }
    let to = |path: &Path| at(&Path::new(VENV).join(path));
    Ok(Package {
        shown: vec![Shown { from: root.to_owned(), to: VENV.into() }],
        program: to(python),
        script: Some(to(file.strip_prefix(root).unwrap_or(file))),
        has_files: false,
    })
}

/// The names of what `package` depends on; those that are left out on this machine are not found later.
fn dependencies(package: &Path) -> Result<Vec<String>, PackageError> {
    let path = package.join("package.json");
    let text = match beginning(&path, MANIFEST_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| PackageError::Read(path.clone(), error))?,
    };
    let manifest: Value = serde_json::from_slice(&text)
        .map_err(|error| PackageError::Read(path, io::Error::from(error)))?;
    let kinds = ["dependencies", "optionalDependencies", "peerDependencies"];
    let names = kinds.iter().filter_map(|kind| manifest.get(kind)?.as_object());
    Ok(names.flat_map(|names| names.keys().cloned()).collect())
}

/// No more than `most` bytes of a file.
fn beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn resolve(package: &Path, name: &str, root: &Path) -> Option<PathBuf> {
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !Path::new(name).components().all(is_name) {
        return None;
    }
    let above = package.ancestors().take_while(|it| it.starts_with(root));
    let beside = above.chain(root.parent()).map(|it| it.join(PACKAGES).join(name));
    beside.into_iter().find(|it| it.exists())
}

/// The interpreter of a script, where the system has it not.
fn interpreter(
    file: &Path,
    (path, folder): (&OsStr, &Path),
) -> Result<Option<PathBuf>, PackageError> {
    let start = beginning(file, SHEBANG_MAX);
    let start = start.map_err(|error| PackageError::Read(file.to_owned(), error))?;
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let unknown = |interpreter: &str| PackageError::Interpreter {
        program: file.to_owned(),
        interpreter: interpreter.to_owned(),
    };
    if !first.ends_with("/env") {
        return if is_of_system(first.as_ref()) { Ok(None) } else { Err(unknown(first)) };
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
    let name = name.unwrap_or_default();
    let found = programs::find(name.as_ref(), (Some(path), folder)).ok_or_else(|| unknown(name))?;
    let real = found.canonicalize().map_err(|error| PackageError::Read(found.clone(), error))?;
    if is_of_system(&real) {
        return Ok(None);
    }
    let is_program = beginning(&real, SHEBANG_MAX).is_ok_and(|it| it.starts_with(b"\x7fELF"));
    if is_program { Ok(Some(found)) } else { Err(unknown(name)) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn lab() -> (tempfile::TempDir, PathBuf) {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        (lab, top)
    }

    #[test]
    fn an_npm_program_is_its_package_with_what_it_depends_on_and_no_other() {
        let (_lab, top) = lab();
        let packages = top.join("lib/node_modules");
        let manifest =
            |name: &str, text: &str| write(&packages.join(name).join("package.json"), text);
        manifest(
            "@a/agent",
            r#"{"dependencies": {"left": "1"}, "optionalDependencies": {"@a/x64": "1", "@a/arm": "1"}}"#,
        );
        manifest("left", r#"{"dependencies": {"deep": "1", "../../escape": "1"}}"#);
        manifest("left/node_modules/deep", "{}");
        manifest("@a/x64", "{}");
        manifest("secret-of-the-firm", "{}");
        write(&packages.join("@a/agent/bin/agent.js"), "#!/usr/bin/env sh\n");
        fs::create_dir(top.join("bin")).unwrap();
        symlink("../lib/node_modules/@a/agent/bin/agent.js", top.join("bin/agent")).unwrap();
        let path = format!("{}:/usr/bin:/bin", top.join("bin").display());
        let found = package("agent".as_ref(), (path.as_ref(), &top)).unwrap();
        let to: Vec<_> = found.shown.iter().map(|it| it.to.display().to_string()).collect();
        assert_eq!(to, ["node_modules/@a/agent", "node_modules/@a/x64", "node_modules/left"]);
        let program = Path::new(PROGRAM_FOLDER).join("node_modules/@a/agent/bin/agent.js");
        assert_eq!((found.program, found.has_files), (program, false));
    }

    #[test]
    fn a_program_of_a_virtual_environment_is_run_by_its_python_which_is_the_systems() {
        let (_lab, top) = lab();
        let root = top.join("tools/agent");
        write(&root.join("pyvenv.cfg"), "home = /usr/bin\n");
        write(&root.join("bin/agent"), &format!("#!{}/bin/python\n", root.display()));
        symlink("python3", root.join("bin/python")).unwrap();
        symlink("/bin/sh", root.join("bin/python3")).unwrap();
        fs::create_dir(top.join("bin")).unwrap();
        symlink("../tools/agent/bin/agent", top.join("bin/agent")).unwrap();
        let path = format!("{}:/usr/bin:/bin", top.join("bin").display());
        let found = package("agent".as_ref(), (path.as_ref(), &top)).unwrap();
        assert_eq!(found.shown, [Shown { from: root.clone(), to: VENV.into() }]);
        assert_eq!(found.program, Path::new(PROGRAM_FOLDER).join("venv/bin/python"));
        assert_eq!(found.script, Some(Path::new(PROGRAM_FOLDER).join("venv/bin/agent")));
        // A Python of the user's own is in no machine.
        fs::remove_file(root.join("bin/python3")).unwrap();
        write(&root.join("bin/python3"), "\x7fELF");
        let error = package("agent".as_ref(), (path.as_ref(), &top)).unwrap_err().to_string();
        assert!(error.contains("is run by") && error.contains("bin/python3"), "{error}");
    }

    #[test]
    fn links_of_a_store_of_packages_come_along_and_links_out_of_it_do_not() {
        let (_lab, top) = lab();
        let store = top.join("node_modules/.pnpm");
        let own = store.join("agent@1/node_modules/agent");
        let manifest = r#"{"dependencies": {"dep": "1", "mine": "1"}}"#;
        write(&own.join("package.json"), manifest);
        write(&own.join("cli"), "\x7fELF");
        write(&store.join("dep@1/node_modules/dep/package.json"), "{}");
        write(&top.join("work/mine/package.json"), "{}");
        symlink("../../dep@1/node_modules/dep", own.parent().unwrap().join("dep")).unwrap();
        symlink(top.join("work/mine"), own.parent().unwrap().join("mine")).unwrap();
        let found = package(own.join("cli").as_os_str(), ("/bin".as_ref(), &top)).unwrap();
        let to: Vec<_> = found.shown.iter().map(|it| it.to.display().to_string()).collect();
        let expected = [
            "node_modules/.pnpm/agent@1/node_modules/agent",
            "node_modules/.pnpm/agent@1/node_modules/dep",
            "node_modules/.pnpm/agent@1/node_modules/mine",
            "node_modules/.pnpm/dep@1/node_modules/dep",
        ];
        assert_eq!(to, expected);
    }

    #[test]
    fn other_programs_are_a_file_with_an_interpreter_and_the_systems_are_there() {
        let (_lab, top) = lab();
        write(&top.join("own/tool"), "#!/usr/bin/env runner\n");
        write(&top.join("own/runner"), "\x7fELF");
        let path = format!("{}:/usr/bin:/bin", top.join("own").display());
        let of = |program: &str| package(program.as_ref(), (path.as_ref(), &top));
        let found = of("tool").unwrap();
        let to: Vec<_> = found.shown.iter().map(|it| it.to.display().to_string()).collect();
        assert_eq!((to, found.has_files), (vec!["bin/tool".into(), "bin/runner".into()], true));
        let found = of("sh").unwrap();
        assert!(found.shown.is_empty() && found.program.starts_with("/usr"), "{found:?}");
        write(&top.join("own/venv"), "#!/home/me/venv/bin/python\n");
        assert!(of("venv").unwrap_err().to_string().contains("/home/me/venv/bin/python"));
        write(&top.join("own/lost"), "#!/usr/bin/env no-such-thing\n");
        assert!(of("lost").unwrap_err().to_string().contains("no-such-thing"));
        assert!(matches!(of("nothing-of-that-name"), Err(PackageError::NotFound(_))));
    }
}
