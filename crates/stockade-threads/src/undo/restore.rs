//! Carrying a plan out: what is as the thread left it becomes what it was; the rest is left, and named.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use stockade_sandbox::keep::{self, FileId, changed, id_of};

use super::beneath::{Hands, is_of_time, kind};
use super::journals::{Ends, Journals};
use super::plan::{Entered, KeptFile, Object, Plan, Want, Wanted};
use super::{Outcome, Taken, Why};

/// What is to be done, and with what.
pub(super) struct Work<'a> {
    pub(super) hands: Hands,
    pub(super) journals: &'a Journals,
    pub(super) ends: Ends,
    pub(super) plan: &'a Plan,
    pub(super) is_forced: bool,
    /// Only what is at or below these; none: all.
    pub(super) chosen: &'a [PathBuf],
    /// What earlier undos have taken back: what became of it since is not the thread's.
    pub(super) back: &'a HashSet<PathBuf>,
    /// The folder beneath each root in which what is renamed waits.
    pub(super) waiting: String,
    pub(super) taken: BTreeMap<PathBuf, Outcome>,
}

/// What is going to be done with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Remove,
    /// What is there goes, if anything is.
    Place,
    Rewrite,
}

impl Work<'_> {
    /// Says what would be done with what is selected, and does it if `acts`.
    pub(super) fn run(mut self, acts: bool) -> Vec<Taken> {
        let plan = self.plan;
        let at_rest = self.at_rest();
        let is_to_do = |it: &&Wanted| !at_rest.contains(&*it.path) && self.is_selected(it);
        let selected: Vec<&Wanted> = plan.wanted.iter().filter(is_to_do).collect();
        let entered: Vec<&Entered> = plan.entered.iter().filter(|it| self.is_old(it)).collect();
        let mut sources: HashSet<&Path> = HashSet::new();
        for it in &selected {
            if let Want::Moved(from) = &it.want {
                sources.insert(from);
            }
        }
        let mut steps = Vec::new();
        for it in selected {
            match self.judge(it, &sources) {
                Ok(Some(step)) => steps.push((it, step)),
                Ok(None) => {}
                Err(why) => drop(self.taken.insert(it.path.clone(), Outcome::Left(why))),
            }
        }
        for (it, step) in &steps {
            let outcome = match step {
                Step::Remove => Outcome::Removed,
                Step::Place | Step::Rewrite => Outcome::Restored,
            };
            // One that was moved and written is one.
            self.taken.entry(it.path.clone()).or_insert(outcome);
        }
        if acts {
            self.act(&steps);
            self.set_times(&entered);
        }
        self.taken.into_iter().map(|(path, outcome)| Taken { path, outcome }).collect()
    }

    fn is_chosen(&self, path: &Path) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|chosen| path.starts_with(chosen))
    }

    /// What was taken back already, and is not in a folder that is going to be made anew.
    fn at_rest(&self) -> HashSet<&Path> {
        let mut found: HashSet<&Path> = HashSet::new();
        // A folder comes before what is in it.
        for it in &self.plan.wanted {
            let stays = !it.is_fresh || it.path.parent().is_some_and(|it| found.contains(it));
            if stays && self.back.contains(&it.path) {
                found.insert(&it.path);
            }
        }
        found
    }

    fn is_selected(&self, it: &Wanted) -> bool {
        let source = matches!(&it.want, Want::Moved(from) if self.is_chosen(from));
        self.is_chosen(&it.path) || self.is_chosen(&it.now) || source
    }

    /// Whether a folder is to have its time back: nobody else has made anything in it since.
    fn is_old(&self, it: &Entered) -> bool {
        self.is_chosen(&it.path)
            && self.hands.look(&it.now).is_none_or(|stat| self.is_ours(&it.now, &stat))
    }

    fn is_ours(&self, path: &Path, stat: &Stat) -> bool {
        self.is_forced || self.ends.is_ours(path, (id_of(stat), changed(stat)))
    }

    fn judge(&self, it: &Wanted, sources: &HashSet<&Path>) -> Result<Option<Step>, Why> {
        let now = it.now.as_path();
        let is_its = !sources.contains(now) && !it.is_fresh;
        let present = self.hands.look(now).filter(|_| is_its);
        let may_go = |stat: &Stat| kind(stat) == FileType::Directory || self.is_ours(now, stat);
        match &it.want {
            Want::Absent => match present {
                None => Ok(None),
                Some(stat) if may_go(&stat) => Ok(Some(Step::Remove)),
                Some(_) => Err(Why::Changed),
            },
            Want::Moved(from) => match (self.hands.look(from), present) {
                (None, _) => Err(Why::Else(format!("`{}` is gone", from.display()))),
                (Some(_), Some(stat)) if !may_go(&stat) => Err(Why::Changed),
                (Some(_), _) => Ok(Some(Step::Place)),
            },
            Want::Kept(id) | Want::Anew(id) => {
                let file = self.kept(*id)?;
                let is_folder = file.is_folder();
                if file.link.is_none() && file.copy.is_none() && !is_folder {
                    let why = file.not.as_deref().unwrap_or("its content is not there");
                    return Err(Why::NotKept(why.to_owned()));
                }
                let is_it = |stat: &Stat| {
                    let is_same = is_folder && kind(stat) == FileType::Directory;
                    matches!(it.want, Want::Kept(_)) && (is_same || id_of(stat) == *id)
                };
                match present {
                    None => Ok(Some(Step::Place)),
                    Some(stat) if is_it(&stat) => self.rewritten(now, &stat, file),
                    Some(stat) if may_go(&stat) => Ok(Some(Step::Place)),
                    Some(_) => Err(Why::Changed),
                }
            }
            Want::InPlace(id) => {
                let file = self.kept(*id)?;
                if let Some(why) = file.not.as_ref().filter(|_| file.copy.is_none()) {
                    return Err(Why::NotKept(why.clone()));
                }
                match self.hands.look(now) {
                    Some(stat) => self.rewritten(now, &stat, file),
                    None if self.is_forced && file.copy.is_some() => Ok(Some(Step::Place)),
                    None => Err(Why::Else("it is gone".to_owned())),
                }
            }
        }
    }

    /// Whether the file at `now` has to be written to be what it was.
    fn rewritten(&self, now: &Path, stat: &Stat, file: &KeptFile) -> Result<Option<Step>, Why> {
        let is_same = file.copy.is_none_or(|copy| self.has_content(now, copy).unwrap_or(false));
        if is_same
            && stat.st_mode == file.facts.mode
            && self.hands.has_attributes(now, &file.attributes)
            // Whoever only touched it since may keep their time.
            && (is_of_time(stat, &file.facts) || !self.is_ours(now, stat))
        {
            return Ok(None);
        }
        let is_kind = kind(stat) == FileType::from_raw_mode(file.facts.mode);
        if !is_kind || (kind(stat) != FileType::Directory && !self.is_ours(now, stat)) {
            return Err(Why::Changed);
        }
        Ok(Some(Step::Rewrite))
    }

    fn kept(&self, id: FileId) -> Result<&KeptFile, Why> {
        let missing = || Why::NotKept("its line is missing".to_owned());
        self.plan.files.get(&id).ok_or_else(missing)
    }

    fn has_content(&self, path: &Path, object: Object) -> io::Result<bool> {
        let mut kept = File::open(self.journals.object(object))?;
        let mut there = File::from(self.hands.open_file(path, OFlags::RDONLY)?);
        if kept.metadata()?.len() != there.metadata()?.len() {
            return Ok(false);
        }
        let (mut one, mut other) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            let read = kept.read(&mut one)?;
            if read == 0 {
                return Ok(true);
            }
            let other = other.get_mut(..read).unwrap_or_default();
            there.read_exact(other)?;
            if one.get(..read) != Some(other) {
                return Ok(false);
            }
        }
    }

    fn act(&mut self, steps: &[(&Wanted, Step)]) {
        for (it, _) in steps.iter().filter(|(_, step)| *step == Step::Rewrite) {
            let done = self.rewrite(it);
            self.note(&it.path, done);
        }
        let moved = self.stage(steps);
        let aside = |path: &Path| {
            let within = moved.iter().filter(|(from, _)| path.starts_with(from));
            let found = within.max_by_key(|(from, _)| from.as_os_str().len());
            found.and_then(|(from, to)| Some(to.join(path.strip_prefix(from).ok()?)))
        };
        let mut in_the_way: HashSet<&Path> = HashSet::new();
        for (it, _) in steps.iter().rev().filter(|(_, step)| *step != Step::Rewrite) {
            let is_source = it.is_fresh || moved.iter().any(|(from, _)| *from == it.now);
            let now = aside(&it.now).unwrap_or_else(|| it.now.clone());
            if !is_source && let Err(error) = self.remove(&now, &it.now) {
                in_the_way.insert(&it.path);
                self.note(&it.path, Err(error));
            }
        }
        for (it, step) in steps {
            if *step != Step::Place || in_the_way.contains(it.path.as_path()) {
                continue;
            }
            let done = match &it.want {
                Want::Moved(from) => match moved.iter().find(|(source, _)| source == from) {
                    Some((_, waiting)) => self.hands.rename(waiting, &it.path),
                    None => continue,
                },
                Want::Kept(id) | Want::Anew(id) | Want::InPlace(id) => self.place(&it.path, *id),
                Want::Absent => Ok(()),
            };
            self.note(&it.path, done);
        }
        self.tidy(steps, &moved);
    }

    fn note(&mut self, path: &Path, done: io::Result<()>) {
        if let Err(error) = done {
            // All that was as the thread left it has gone by then.
            let is_taken = error.kind() == io::ErrorKind::AlreadyExists;
            let why = if is_taken { Why::Changed } else { Why::Else(error.to_string()) };
            self.taken.insert(path.to_owned(), Outcome::Left(why));
        }
    }

    /// Puts what gets another name aside, the deepest first; says from where to where.
    fn stage(&mut self, steps: &[(&Wanted, Step)]) -> Vec<(PathBuf, PathBuf)> {
        let mut sources: Vec<(&Path, &Path)> = Vec::new();
        for (it, _) in steps {
            if let Want::Moved(from) = &it.want {
                sources.push((from, &it.path));
            }
        }
        sources.sort_by_key(|(from, _)| std::cmp::Reverse(from.components().count()));
        let mut moved = Vec::new();
        for (number, (from, path)) in sources.into_iter().enumerate() {
            let done = self.wait_in(from).and_then(|folder| {
                let waiting = folder.join(number.to_string());
                self.hands.rename(from, &waiting).map(|()| waiting)
            });
            match done {
                Ok(waiting) => moved.push((from.to_owned(), waiting)),
                Err(error) => self.note(path, Err(error)),
            }
        }
        moved
    }

    fn wait_in(&self, path: &Path) -> io::Result<PathBuf> {
        let root = self.hands.root_of(path).ok_or(io::ErrorKind::NotFound)?;
        let folder = root.join(&self.waiting);
        if self.hands.look(&folder).is_none() {
            self.hands
                .bear(&folder, |(above, name)| Ok(rustix::fs::mkdirat(above, name, Mode::RWXU)?))?;
        }
        Ok(folder)
    }

    /// Gives a file that is there its content and its mode back.
    fn rewrite(&self, it: &Wanted) -> io::Result<()> {
        let (Want::InPlace(id) | Want::Kept(id)) = &it.want else { return Ok(()) };
        let file = self.kept(*id).map_err(io::Error::other)?;
        if file.is_folder() {
            self.hands.set_attributes(&it.now, &file.attributes)?;
            // Until the end things have to be made in it.
            return self.hands.set_mode(&it.now, file.facts.mode | 0o700);
        }
        if let Some(copy) = file.copy
            && !self.has_content(&it.now, copy).unwrap_or(false)
        {
            self.write_back(&it.now, copy)?;
        }
        self.finish(&it.now, file)
    }

    /// Gives a file that has its content what else it had. Its time comes last: all the rest
    /// would change it.
    fn finish(&self, path: &Path, file: &KeptFile) -> io::Result<()> {
        self.hands.set_attributes(path, &file.attributes)?;
        self.hands.set_mode(path, file.facts.mode)?;
        self.hands.set_time(path, &file.facts)
    }

    fn write_back(&self, path: &Path, copy: Object) -> io::Result<()> {
        let opened = self.hands.open_file(path, OFlags::WRONLY);
        if matches!(&opened, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
            let mode = self.hands.look(path).map_or(0, |stat| stat.st_mode);
            self.hands.set_mode(path, mode | 0o200)?;
        }
        let file = opened.or_else(|_| self.hands.open_file(path, OFlags::WRONLY))?;
        self.hands.keeper()?.touches(&file, path, true);
        rustix::fs::ftruncate(&file, 0)?;
        io::copy(&mut File::open(self.journals.object(copy))?, &mut File::from(file))?;
        Ok(())
    }

    /// Removes what is at `now`, which was called `path`, with all in it that is as the thread left
    /// it; what is not stays, and is named.
    fn remove(&mut self, now: &Path, path: &Path) -> io::Result<()> {
        let Some(stat) = self.hands.look(now) else { return Ok(()) };
        if kind(&stat) != FileType::Directory {
            if !self.is_ours(path, &stat) {
                self.taken.insert(path.to_owned(), Outcome::Left(Why::Changed));
                return Err(io::Error::other(Why::Changed));
            }
            return self.hands.unlink(now, AtFlags::empty());
        }
        if stat.st_mode & 0o700 != 0o700 {
            self.hands.set_mode(now, stat.st_mode | 0o700)?;
        }
        let mut left = Ok(());
        for name in self.hands.names(now)? {
            let removed = self.remove(&now.join(&name), &path.join(&name));
            left = left.and(removed);
        }
        if left.is_err() {
            // What it was is named by itself.
            return Err(io::Error::other("something in it changed since"));
        }
        self.hands.unlink(now, AtFlags::REMOVEDIR)
    }

    /// Makes what was there.
    fn place(&self, path: &Path, id: FileId) -> io::Result<()> {
        let file = self.kept(id).map_err(io::Error::other)?;
        let facts = &file.facts;
        let of_kind = FileType::from_raw_mode(facts.mode);
        if of_kind == FileType::Directory {
            self.hands.make_folder(path, facts)?;
            self.hands.set_attributes(path, &file.attributes)?;
            return self.hands.set_mode(path, facts.mode | 0o700);
        }
        let linked = file.link.map(|object| {
            self.hands.bear(path, |(folder, name)| {
                let object = self.journals.object(object);
                Ok(rustix::fs::linkat(CWD, object, folder, name, AtFlags::empty())?)
            })
        });
        if !matches!(linked, Some(Ok(()))) {
            let object = file.copy.or(file.link).ok_or(io::ErrorKind::NotFound)?;
            self.make(path, &self.journals.object(object), of_kind)?;
            self.hands.own(path, facts)?;
        } else if let Some(copy) = file.copy
            && !self.has_content(path, copy).unwrap_or(false)
        {
            self.write_back(path, copy)?;
        }
        self.finish(path, file)
    }

    fn make(&self, path: &Path, object: &Path, of_kind: FileType) -> io::Result<()> {
        match of_kind {
            FileType::RegularFile => {
                let mut kept = File::open(object)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let made: OwnedFd = self.hands.bear(path, |(folder, name)| {
                    Ok(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?)
                })?;
                let mut made = File::from(made);
                io::copy(&mut kept, &mut made)?;
                keep::copy_attributes(&kept.into(), &made.into());
                Ok(())
            }
            FileType::Symlink => {
                let target = std::fs::read_link(object)?;
                self.hands
                    .bear(path, |(folder, name)| Ok(rustix::fs::symlinkat(&target, folder, name)?))
            }
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Gives folders their times, where all that is in them was taken back. Each is set when
    /// nothing more is done below it.
    fn set_times(&self, entered: &[&Entered]) {
        let mut left: HashSet<&Path> = HashSet::new();
        for (path, outcome) in &self.taken {
            if matches!(outcome, Outcome::Left(_)) {
                left.extend(path.ancestors().take(2));
            }
        }
        for it in entered.iter().rev() {
            let is_whole = !left.contains(it.path.as_path());
            if let Some(file) = self.plan.files.get(&it.id).filter(|_| is_whole) {
                // A folder of somebody else's keeps its time, and is whole all the same.
                self.hands.set_folder_time(&it.path, &file.facts).ok();
            }
        }
    }

    /// Gives folders their modes, and removes those in which things waited.
    fn tidy(&mut self, steps: &[(&Wanted, Step)], moved: &[(PathBuf, PathBuf)]) {
        for (it, step) in steps.iter().rev() {
            let (Want::Kept(id) | Want::Anew(id) | Want::InPlace(id)) = &it.want else { continue };
            let Ok(mode) = self.kept(*id).map(|file| file.facts.mode) else { continue };
            if FileType::from_raw_mode(mode) != FileType::Directory {
                continue;
            }
            // What was rewritten may have been moved since.
            let at = if *step == Step::Place || self.hands.look(&it.path).is_some() {
                &it.path
            } else {
                &it.now
            };
            let done = self.hands.set_mode(at, mode);
            self.note(&it.path, done);
        }
        let folders: HashSet<&Path> = moved.iter().filter_map(|(_, at)| at.parent()).collect();
        for folder in folders {
            // What could not be put anywhere stays there, and was named.
            self.hands.unlink(folder, AtFlags::REMOVEDIR).ok();
        }
    }
}
