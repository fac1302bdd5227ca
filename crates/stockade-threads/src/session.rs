//! A thread's hands: each call is judged, asked about where the policy says so, recorded, and
//! then carried out in the thread's place.
//!
//! Nothing here knows which kind of place it is. What the place refuses by itself (its kernel
//! knows more than any list) is told in the same words as what was judged here.
//!
//! Invariants:
//! - a command is recorded before it starts, an edit as soon as it happened;
//! - a refused call has not reached the place;
//! - what comes back is kept in bounded memory.

mod capture;
mod edit;
mod shell;
mod typed;

pub(crate) use typed::Typed;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use stockade_agents::{
    AgentEvent, Entry, EntryKind, Hands, HandsError, Match, Search, ShellCall, ShellOutcome, Stop,
};
use stockade_guest::CallError;
use stockade_policy::{Approved, Grant, Review};

use crate::approvals::{Approvals, Judged, Put};
use crate::bounds::{Bounds, Refusal, shown};
use crate::hits::Hits;
use crate::in_place::InPlace;
use crate::journal::{Journal, Live};
use crate::judge::{Judge, refused};
use crate::place::Place;
use crate::question::{Asked, Reply};
use crate::record::{Answer, Denial, Event, Message, Question, Role, Usage, Used};
use crate::widen::Widen;

/// The largest file that a tool reads, in bytes; what the model sees of it is less.
const READ_MAX: u64 = 8 * 1024 * 1024;

/// `ENOENT`, errno(3).
const NO_ENTRY: i32 = 2;
/// `ENOTDIR`.
const NO_FOLDER: i32 = 20;

/// What a session is put together from.
#[derive(Clone)]
pub struct Parts<'a> {
    /// Where things are done.
    pub place: &'a dyn Place,
    /// Which commands run, ask or are refused.
    pub judge: Judge,
    /// Which paths are within reach; without, the place alone says so.
    pub bounds: Option<Bounds>,
    /// What questions go through.
    pub approvals: &'a Approvals<'a>,
    /// Who opens more, where that is possible.
    pub widen: Option<&'a dyn Widen>,
    /// Where it is recorded and shown.
    pub journal: &'a Journal<'a>,
    /// The user's wish to stop.
    pub stop: &'a Stop,
    /// Where it is counted which rules decide.
    pub hits: Option<Hits>,
    /// Who answers what the commands wait for.
    pub in_place: Option<&'a InPlace<'a>>,
}

/// One thread at work in its place.
pub struct Session<'a> {
    parts: Parts<'a>,
    commands: AtomicU64,
    /// The place with more open that was used last, and what is open in it.
    wide: Mutex<Option<(Grant, Arc<dyn Place>)>>,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("judge", &self.judge).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// A session in which nothing has happened yet.
    pub fn new(parts: Parts<'a>) -> Self {
        Self { parts, commands: AtomicU64::new(0), wide: Mutex::default() }
    }

    /// Takes what the agent's loop tells: what counts is recorded, the rest is shown.
    pub fn heard(&self, event: AgentEvent) {
        let recorded = match event {
            AgentEvent::TextDelta(text) => return self.parts.journal.show(&Live::Text(&text)),
            AgentEvent::Retrying { why, after } => {
                return self.parts.journal.show(&Live::Retrying { why: &why, after });
            }
            AgentEvent::Asking { turn, max_turns } => {
                return self.parts.journal.show(&Live::Asking { turn, max_turns });
            }
            AgentEvent::Shortened { bytes } => {
                let text = format!(
                    "the conversation is long: {bytes} bytes of earlier output are left out"
                );
                return self.parts.journal.show(&Live::Note(&text));
            }
            AgentEvent::Step { text } => return self.parts.journal.show(&Live::Step(&text)),
            AgentEvent::Slip { why } => Event::Slip { why },
            // Shown as it came, by `shell`.
            AgentEvent::Output(_) => return,
            AgentEvent::Plan { text } => {
                self.parts.journal.show(&Live::Plan(&text));
                let text = format!("Plan:\n{text}");
                Event::Message(Message { role: Role::Assistant, text })
            }
            AgentEvent::Message { text } => Event::Message(Message { role: Role::Assistant, text }),
            AgentEvent::Usage { input_tokens, output_tokens } => {
                Event::Usage(Usage { input_tokens, output_tokens })
            }
        };
        if self.parts.journal.record(&recorded).is_err() {
            // The next call meets the same error, and ends the thread with it.
            self.parts.stop.request();
        }
    }

    fn record(&self, event: &Event) -> Result<(), HandsError> {
        let lost = |error| HandsError::Lost(format!("the record cannot be kept: {error}"));
        self.parts.journal.record(event).map_err(lost)
    }

    fn not_stopped(&self) -> Result<(), HandsError> {
        if self.parts.stop.is_requested() { Err(HandsError::Interrupted) } else { Ok(()) }
    }

    /// Records and words a refusal.
    fn refuse(&self, refusal: &Refusal) -> HandsError {
        let denial = Denial::new(refusal.op, refusal.target.as_os_str(), refusal.decided_by);
        self.deny(denial, &refusal.words)
    }

    fn deny(&self, denial: Denial, words: &str) -> HandsError {
        if let Err(lost) = self.record(&Event::Denial(denial)) {
            return lost;
        }
        let words = refused(words);
        self.parts.journal.show(&Live::Refused(&words));
        HandsError::Refused(words)
    }

    /// Turns a review into an approval, asking a person where it must. `Err` holds why not, in
    /// words that follow the name of the action.
    fn approve<A>(
        &self,
        review: Review<A>,
        asked: &Asked,
        judged: Option<&Judged<'_>>,
    ) -> Result<Approved<A>, Declined> {
        let pending = match review {
            Review::Allowed(approved) => return Ok(approved),
            Review::Denied(_) => return Err(Declined::No(String::new())),
            Review::Ask(pending) => pending,
        };
        let approvals = self.parts.approvals;
        if let Some(grant) = approvals.grant_of(asked, judged) {
            let used = Event::Used(Used::of(&grant, &asked.action));
            self.record(&used).map_err(Declined::Lost)?;
            return Ok(pending.grant());
        }
        let id = approvals.next();
        self.record(&Event::Question(Question {
            id: id.clone(),
            effect: asked.effect.clone(),
            choices: approvals.choices(asked),
            prefixes: asked.prefixes.clone(),
        }))
        .map_err(Declined::Lost)?;
        let put = approvals.put(&id, asked);
        self.record(&Event::Answer(answered(id, &put))).map_err(Declined::Lost)?;
        self.settled(put)?;
        Ok(pending.grant())
    }

    /// Nothing where the answer is a yes.
    fn settled(&self, Put { reply, by }: Put) -> Result<(), Declined> {
        let why = match reply {
            Reply::Once | Reply::Thread(_) | Reply::Project(_) => return Ok(()),
            Reply::Deny(word) if by == "flood" => {
                self.parts.journal.show(&Live::Note(&word));
                word
            }
            Reply::Deny(word) if word.is_empty() => "the user said no".to_owned(),
            Reply::Deny(word) => format!("the user said no: {word}"),
            Reply::Nobody => return Err(Declined::Nobody),
            Reply::Late => "nobody answered in time".to_owned(),
            Reply::Stop => {
                self.parts.stop.request();
                return Err(Declined::Lost(HandsError::Interrupted));
            }
        };
        Err(Declined::No(why))
    }

    /// The place in which `grant` is open, and nothing else that is not open anyway. The one that
    /// was used last stays up for the next command with the same approval.
    fn wide(&self, grant: &Grant) -> Result<Arc<dyn Place>, HandsError> {
        let Some(widen) = self.parts.widen else {
            return Err(HandsError::Failed("nothing can be opened here".to_owned()));
        };
        let mut last = self.wide.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((open, place)) = last.as_ref()
            && open == grant
        {
            return Ok(Arc::clone(place));
        }
        // The one before comes down first, with what still runs in it.
        drop(last.take());
        let place = widen.place(grant).map_err(|error| HandsError::Failed(error.to_string()))?;
        let place: Arc<dyn Place> = Arc::from(place);
        *last = Some((grant.clone(), Arc::clone(&place)));
        Ok(place)
    }
}

/// An answer as it is recorded.
pub(crate) fn answered(id: String, Put { reply, by }: &Put) -> Answer {
    let (answer, prefix, word) = match reply {
        Reply::Once => ("once", None, None),
        Reply::Thread(prefix) => ("thread", prefix.clone(), None),
        Reply::Project(prefix) => ("project", Some(prefix.clone()), None),
        Reply::Deny(word) => ("deny", None, (!word.is_empty()).then(|| word.clone())),
        Reply::Nobody | Reply::Late | Reply::Stop => ("deny", None, None),
    };
    Answer { id, answer: answer.to_owned(), by: (*by).to_owned(), prefix, word }
}

/// Why an action is not approved.
enum Declined {
    /// It was judged, or a person said so.
    No(String),
    /// It would have to be asked, and nobody is there.
    Nobody,
    /// The thread cannot go on.
    Lost(HandsError),
}

impl Declined {
    /// In words that follow the name of the action.
    fn why(&self) -> &str {
        match self {
            Self::No(why) => why,
            Self::Nobody => "there is nobody here to ask",
            Self::Lost(_) => "the thread ends",
        }
    }
}

/// What a failed call means to the agent.
fn failed(error: CallError) -> HandsError {
    match error {
        CallError::Refused { text, .. } => HandsError::Failed(text),
        lost @ (CallError::Lost | CallError::Malformed(_) | _) => {
            HandsError::Lost(lost.to_string())
        }
    }
}

impl Hands for Session<'_> {
    fn shell(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        self.not_stopped()?;
        self.run_line(call, output)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, HandsError> {
        self.within_reach(path)?;
        self.parts.place.client().read_file(path, READ_MAX).map_err(failed)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, HandsError> {
        self.within_reach(path)?;
        let found = self.parts.place.client().list(path).map_err(failed)?;
        Ok(found.into_iter().map(entry).collect())
    }

    fn search(&self, query: &Search) -> Result<Vec<Match>, HandsError> {
        let path = query.path.as_deref().unwrap_or(Path::new("."));
        self.within_reach(path)?;
        let client = self.parts.place.client();
        let found = client.search(&query.pattern, path, query.max).map_err(failed)?;
        let matches = found.into_iter().map(|found| Match {
            path: found.path,
            line: found.line,
            text: String::from_utf8_lossy(&found.text).into_owned(),
        });
        Ok(matches.collect())
    }

    fn write(&self, path: &Path, content: Option<&[u8]>) -> Result<(), HandsError> {
        self.not_stopped()?;
        self.edit(path, content)
    }
}

impl Session<'_> {
    /// A file of the project's that is looked for unasked; `None` where there is none. No denial of
    /// the agent's comes of it.
    pub(crate) fn instructions(&self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        if self.parts.bounds.as_ref().is_some_and(|bounds| bounds.read(path).is_err()) {
            return Err("it leads to what is hidden".to_owned());
        }
        match self.parts.place.client().read_file(path, READ_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(CallError::Refused { errno: NO_ENTRY | NO_FOLDER, .. }) => Ok(None),
            Err(CallError::Refused { text, .. }) => Err(text),
            // Whoever calls next finds out.
            Err(_lost) => Ok(None),
        }
    }

    /// `path` as a person reads it.
    pub(crate) fn named(&self, path: &Path) -> String {
        self.parts.bounds.as_ref().map_or_else(|| shown(path), |bounds| bounds.shown(path))
    }

    /// Whether `path` may be read, in words if not.
    fn within_reach(&self, path: &Path) -> Result<(), HandsError> {
        self.not_stopped()?;
        let judged = self.parts.bounds.as_ref().map_or(Ok(()), |bounds| bounds.read(path));
        judged.map_err(|refusal| self.refuse(&refusal))
    }
}

fn entry(found: stockade_guest::Entry) -> Entry {
    let kind = match found.kind {
        stockade_guest::EntryKind::File => EntryKind::File,
        stockade_guest::EntryKind::Folder => EntryKind::Folder,
        stockade_guest::EntryKind::Link => EntryKind::Link,
        stockade_guest::EntryKind::Other => EntryKind::Other,
    };
    Entry { name: found.name, kind, bytes: found.bytes }
}
