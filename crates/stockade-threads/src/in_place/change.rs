//! Names outside that a call gives, takes or changes: asked about, and changed here after a yes.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};
use stockade_policy::AbsPath;
use stockade_sandbox::{Change, Question, Reply as Answer};

use super::keeper::Kept;
use super::target::Target;
use super::{InPlace, Said, escaped};
use crate::bounds::shown;
use crate::question::Asked;

/// What is done after a yes.
enum Act {
    MakeFolder(Target, Mode),
    MakePipe(Target, Mode),
    Remove(Target),
    Rename(Target, Target),
    Mode(Target, Mode),
    Times(Target, Timestamps),
    Owner(Target, Option<u32>, Option<u32>),
    Symlink(Target, PathBuf),
    Link(Target, Target),
    Truncate(Target, u64),
    Attribute(Target, String, Option<Vec<u8>>, XattrFlags),
}

impl Act {
    fn perform(&self, kept: &Kept) -> std::io::Result<()> {
        match self {
            Self::MakeFolder(target, mode) => target.make_folder(*mode, kept),
            Self::MakePipe(target, mode) => target.make_pipe(*mode, kept),
            Self::Remove(target) => target.remove(kept),
            Self::Rename(from, to) => from.rename(to, kept),
            Self::Mode(target, mode) => target.change_mode(*mode, kept),
            Self::Times(target, times) => target.change_times(times, kept),
            Self::Owner(target, user, group) => target.change_owner((*user, *group), kept),
            Self::Symlink(target, text) => target.link_to(text, kept),
            Self::Link(from, to) => from.link(to, kept),
            Self::Truncate(target, length) => target.truncate(*length, kept),
            Self::Attribute(target, name, value, flags) => {
                target.change_attribute((name, value.as_deref(), *flags), kept)
            }
        }
    }
}

/// What a yes for more than this would have to hold. What goes, gets another name or is a link
/// leaves its folder, or would lead elsewhere at the next start.
fn held(change: &Change) -> Vec<&Path> {
    match change {
        Change::Times { path, .. } | Change::Owner { path, .. } if path.is_symlink() => {
            path.parent().into_iter().collect()
        }
        Change::MakeFolder { path, .. }
        | Change::MakePipe { path, .. }
        | Change::Mode { path, .. }
        | Change::Truncate { path, .. }
        | Change::Attribute { path, .. }
        | Change::Owner { path, .. }
        | Change::Times { path, .. } => vec![path],
        Change::Remove { path, .. } | Change::Symlink { path, .. } => {
            path.parent().into_iter().collect()
        }
        Change::Rename { from, to, .. } | Change::Link { from, to } => {
            [from, to].into_iter().filter_map(|path| path.parent()).collect()
        }
    }
}

/// What is changed, by name.
fn names(change: &Change) -> Vec<&Path> {
    match change {
        Change::MakeFolder { path, .. }
        | Change::MakePipe { path, .. }
        | Change::Mode { path, .. }
        | Change::Times { path, .. }
        | Change::Owner { path, .. }
        | Change::Truncate { path, .. }
        | Change::Attribute { path, .. }
        | Change::Remove { path, .. }
        | Change::Symlink { path, .. } => vec![path],
        Change::Rename { from, to, .. } | Change::Link { from, to } => vec![from, to],
    }
}

/// What is not worth a question of its own, and changes where a person has opened the rest: what `cp -a`
/// and `tar` set of whatever they have made.
fn is_small(change: &Change) -> bool {
    match change {
        Change::Times { .. } | Change::Owner { .. } => true,
        Change::Attribute { name, .. } => !name.starts_with("user."),
        Change::MakeFolder { .. }
        | Change::MakePipe { .. }
        | Change::Remove { .. }
        | Change::Rename { .. }
        | Change::Mode { .. }
        | Change::Symlink { .. }
        | Change::Link { .. }
        | Change::Truncate { .. } => false,
    }
}

/// What is asked: what a yes does, the action, and what the program does.
type Asking = (Act, String, &'static str);

impl InPlace<'_> {
    pub(super) fn change(&self, question: &Question, change: &Change) -> Answer {
        let Some((act, action, words)) = self.act(change) else { return Answer::Unasked };
        let paths = self.offers(&held(change));
        let program = escaped(&question.program);
        let effect = format!(
            "{action}\n`{program}` {words}, outside what may be written.\n\
             A yes does this once, and opens nothing."
        );
        let asked = Asked { action, effect, paths, ..Asked::default() };
        if is_small(change) && self.approvals.grant_of(&asked, None).is_none() {
            return Answer::Unasked;
        }
        match self.ask(&asked, None, &|| question.is_wanted()) {
            Said::Once if !question.is_wanted() => self.keep(&asked),
            Said::Once | Said::Always => match act.perform(&self.kept(&names(change))) {
                Ok(()) => Answer::Yes,
                // As it would have failed without a boundary.
                Err(error) if error.raw_os_error().is_some() => {
                    Answer::Failed(error.raw_os_error().unwrap_or_default())
                }
                Err(error) => {
                    Answer::No(format!("allowed, but it could not be done afterwards: {error}"))
                }
            },
            Said::Nobody => Answer::Nobody,
            Said::No(why) => Answer::No(why),
        }
    }

    /// A name that its user may give or take away, if a person may be asked about it.
    fn name(&self, path: &Path) -> Option<Target> {
        self.may_be_asked(path).then(|| Target::name(path).ok()).flatten()
    }

    /// What `change` comes to, if a person may be asked about it.
    fn act(&self, change: &Change) -> Option<Asking> {
        match change {
            Change::MakeFolder { path, mode } => {
                let target = self.name(path).filter(Target::is_new)?;
                let act = Act::MakeFolder(target, Mode::from_raw_mode(*mode));
                Some((act, format!("make folder {}", shown(path)), "makes this folder"))
            }
            Change::MakePipe { path, mode } => {
                let target = self.name(path).filter(Target::is_new)?;
                let act = Act::MakePipe(target, Mode::from_raw_mode(*mode));
                Some((act, format!("make pipe {}", shown(path)), "makes this named pipe"))
            }
            Change::Remove { path, is_folder: true } => {
                let target = self.name(path).filter(Target::is_folder)?;
                let action = format!("remove folder {}", shown(path));
                Some((Act::Remove(target), action, "removes this folder, which has to be empty"))
            }
            Change::Remove { path, is_folder: false } => {
                let is_such = |it: &Target| it.is_file() || it.is_link() || it.is_pipe();
                let target = self.name(path).filter(is_such)?;
                let (kind, words) = match (target.is_link(), target.is_pipe()) {
                    (true, _) => ("link ", "removes this link"),
                    (false, true) => ("pipe ", "removes this named pipe"),
                    (false, false) => ("", "removes this file"),
                };
                Some((Act::Remove(target), format!("remove {kind}{}", shown(path)), words))
            }
            Change::Rename { from, to, is_careful } => self.rename(from, to, *is_careful),
            Change::Mode { .. }
            | Change::Times { .. }
            | Change::Owner { .. }
            | Change::Truncate { .. }
            | Change::Attribute { .. }
            | Change::Symlink { .. }
            | Change::Link { .. } => self.other(change),
        }
    }

    fn rename(&self, from: &Path, to: &Path, is_careful: bool) -> Option<Asking> {
        let source = self.name(from)?;
        let target = self.name(to)?;
        let is_name = |it: &Target| it.is_file() || it.is_link();
        let (kind, words) = match (source.is_folder(), target.is_new()) {
            (true, true) if self.is_closed_within(from) => return None,
            (true, true) => ("folder ", "renames this folder, with all that is in it"),
            (false, _) if !is_name(&source) => return None,
            (false, true) => ("", "renames this file"),
            (false, false) if is_name(&target) && !is_careful => {
                ("", "renames this file and replaces another")
            }
            (true | false, false) => return None,
        };
        let action = format!("rename {kind}{} to {}", shown(from), shown(to));
        Some((Act::Rename(source, target), action, words))
    }

    /// Modes, times, owners, lengths, attributes and links.
    fn other(&self, change: &Change) -> Option<Asking> {
        let of_user =
            |path: &Path| self.may_be_asked(path).then(|| Target::own(path).ok()).flatten();
        let own = |path: &Path| of_user(path).filter(|it| !it.is_link());
        let own_or_link = of_user;
        match change {
            Change::Mode { path, mode } => {
                let target = own(path)?;
                let words = match (*mode & !0o777, target.is_folder()) {
                    (0, _) => "changes who may read, write and execute this",
                    // Of a file it would be run as its group.
                    (_, false) => return None,
                    (0o1000, true) => "lets each remove only what is theirs in this folder",
                    (_, true) => "gives what is made in this folder the folder's group",
                };
                let act = Act::Mode(target, Mode::from_raw_mode(*mode));
                Some((act, format!("change the mode of {} to {mode:o}", shown(path)), words))
            }
            Change::Times { path, times: [one, nanos, other, others] } => {
                let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
                let (last_access, last_modification) = (time(*one, *nanos), time(*other, *others));
                let times = Timestamps { last_access, last_modification };
                let action = format!("change the times of {}", shown(path));
                let act = Act::Times(own_or_link(path)?, times);
                Some((act, action, "changes when this was changed last"))
            }
            Change::Owner { path, user, group } => {
                let act = Act::Owner(own_or_link(path)?, *user, *group);
                let action = format!("change the owner of {}", shown(path));
                Some((act, action, "changes whose this is"))
            }
            Change::Symlink { path, text } => {
                let target = self.name(path).filter(Target::is_new)?;
                let action = format!("make link {} to {}", shown(path), shown(text));
                Some((Act::Symlink(target, text.clone()), action, "makes this symbolic link"))
            }
            Change::Link { from, to } => {
                let source = own(from).filter(Target::is_file)?;
                let target = self.name(to).filter(Target::is_new)?;
                let action = format!("name {} also {}", shown(from), shown(to));
                Some((Act::Link(source, target), action, "gives this file a second name"))
            }
            Change::Truncate { path, length } => {
                let found = self.may_be_asked(path).then(|| Target::find(path).ok()).flatten();
                let act = Act::Truncate(found.filter(Target::is_file)?, *length);
                let action = format!("set the length of {} to {length} bytes", shown(path));
                Some((act, action, "cuts this file, or fills it with zeros"))
            }
            Change::Attribute { path, name, value, flags } => {
                let verb = if value.is_some() { "set" } else { "remove" };
                let action = format!("{verb} the attribute {} of {}", escaped(name), shown(path));
                let flags = XattrFlags::from_bits_retain(*flags);
                let act = Act::Attribute(own(path)?, name.clone(), value.clone(), flags);
                Some((act, action, "changes what this carries beside its content"))
            }
            Change::MakeFolder { .. }
            | Change::MakePipe { .. }
            | Change::Remove { .. }
            | Change::Rename { .. } => None,
        }
    }

    /// Whether something lies below `path` that the boundary closes or is about: by another name it
    /// would be neither.
    fn is_closed_within(&self, path: &Path) -> bool {
        let policy = self.of.bounds.policy();
        let named = [&policy.hidden, &policy.protected, &policy.writable].into_iter().flatten();
        let named = named.chain(&policy.home).chain([&policy.workspace]);
        named.map(AbsPath::as_path).any(|inner| inner.starts_with(path))
            || !self.may_be_offered(path)
    }
}
