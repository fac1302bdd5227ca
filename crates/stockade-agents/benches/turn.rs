//! What a turn of the built-in agent costs beside the model's own time: `cargo bench -p
//! stockade-agents`.
//!
//! The same questions go to the scripted server twice: from the agent, with hands that do
//! nothing, and from a bare socket. CPU time is that of the asking thread alone, which is what to
//! compare on a machine that is shared.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use stockade_agents::{
    Api, Builtin, Entry, Exit, Hands, HandsError, Match, Model, Search, ShellCall, ShellOutcome,
    Stop, Task,
};
use stockade_testkit::model::{FakeModel, Step};

const TURNS: u32 = 200;

struct Idle;

impl Hands for Idle {
    fn shell(&self, _: &ShellCall, _: &mut dyn FnMut(&[u8])) -> Result<ShellOutcome, HandsError> {
        Ok(ShellOutcome { exit: Exit::Status(0), output: Vec::new(), is_truncated: false })
    }
    fn read(&self, _: &Path) -> Result<Vec<u8>, HandsError> {
        Ok(Vec::new())
    }
    fn list(&self, _: &Path) -> Result<Vec<Entry>, HandsError> {
        Ok(Vec::new())
    }
    fn search(&self, _: &Search) -> Result<Vec<Match>, HandsError> {
        Ok(Vec::new())
    }
    fn write(&self, _: &Path, _: Option<&[u8]>) -> Result<(), HandsError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("one turn of {TURNS}, all of the conversation sent each time");
    println!(
        "{:<12}{:>12}{:>12}{:>12}{:>14}",
        "api", "agent", "socket", "difference", "last request"
    );
    let paths = [
        (Api::Responses, "/responses"),
        (Api::Chat, "/chat/completions"),
        (Api::Messages, "/v1/messages"),
    ];
    for (api, path) in paths {
        let steps = (1..TURNS).map(|_| Step::Shell("true".to_owned()));
        let server = FakeModel::start(steps.chain([Step::say("Done.")]).collect())?;
        let base_url = format!("http://127.0.0.1:{}", server.port());
        let agent = Builtin::new(Model { api, base_url, name: "fake-1".to_owned(), key: None })?;
        let task = Task {
            prompt: "Do it.".to_owned(),
            system: String::new(),
            max_turns: TURNS,
            max_tokens: None,
            context_tokens: 1_000_000,
            command_timeout: Duration::from_secs(1),
        };
        let start = Clock::start()?;
        agent.run(&task, &Idle, &mut |_| {}, &Stop::default())?;
        let agent = start.turn()?;
        let requests: Vec<String> = server.requests().iter().map(ToString::to_string).collect();
        let start = Clock::start()?;
        bare(server.port(), path, &requests)?;
        let socket = start.turn()?;
        let last = requests.last().map_or(0, String::len);
        println!("{:<12}{agent:>22}{socket:>22}{last:>14} B", format!("{api:?}"));
    }
    Ok(())
}

/// Time that goes by, and that this thread works.
struct Clock {
    wall: Instant,
    cpu_ns: u64,
}

impl Clock {
    fn start() -> Result<Self, Box<dyn Error>> {
        Ok(Self { wall: Instant::now(), cpu_ns: Self::cpu_ns()? })
    }

    /// What one turn has taken.
    fn turn(&self) -> Result<String, Box<dyn Error>> {
        let wall = (self.wall.elapsed() / TURNS).as_micros();
        let cpu = (Self::cpu_ns()? - self.cpu_ns) / u64::from(TURNS) / 1_000;
        Ok(format!("{wall} us ({cpu} us)"))
    }

    /// Time on a CPU, in nanoseconds: the first field (Documentation/scheduler/sched-stats.rst).
    fn cpu_ns() -> Result<u64, Box<dyn Error>> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(text.split(' ').next().unwrap_or_default().parse()?)
    }
}

/// Sends `requests` one after the other over one connection.
fn bare(port: u16, path: &str, requests: &[String]) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    for body in requests {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
        let mut length = 0;
        let mut line = String::new();
        while answers.read_line(&mut line)? > 2 {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        answers.read_exact(&mut vec![0; length])?;
    }
    Ok(())
}
