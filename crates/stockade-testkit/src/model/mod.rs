//! A model server that follows a script, on the loopback.
//!
//! It speaks what agents speak to a model: the Responses API, the Chat Completions API, the
//! Messages API and `generateContent`, streamed; and it can be told to be a bad server ([`Fault`]).
//! Where in the script a conversation stands is read from the conversation itself (how many
//! tool results it holds), so that retries and side questions do not disturb it.

mod chat;
mod fault;
mod gemini;
mod http;
mod messages;
mod responses;
mod script;

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use http::Request;
use script::Turn;

pub use fault::Fault;
pub use script::Step;

/// A running server; it ends with the process.
#[derive(Debug)]
pub struct FakeModel {
    port: u16,
    requests: Arc<Mutex<Vec<Value>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl FakeModel {
    /// Starts serving `script` on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had.
    pub fn start(script: Vec<Step>) -> io::Result<Self> {
        Self::start_faulty(script, Vec::new())
    }

    /// The same, with what is wrong with the first, the second, … request. Later ones are
    /// answered properly.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn start_faulty(script: Vec<Step>, faults: Vec<Fault>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (seen, all) = (Arc::clone(&requests), Arc::clone(&heads));
        let server = Arc::new(Server { script, faults, seen, all });
        thread::Builder::new().name("model".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                thread::spawn(move || {
                    // A client that goes away in the middle has its reasons.
                    server.serve(stream).ok();
                });
            }
        })?;
        Ok(Self { port, requests, heads })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The heads of all requests so far, of whatever kind.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bodies of all questions so far.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    script: Vec<Step>,
    faults: Vec<Fault>,
    seen: Arc<Mutex<Vec<Value>>>,
    all: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        while let Some(request) = Request::read(&mut stream)? {
            self.all.lock().unwrap_or_else(PoisonError::into_inner).push(request.head.clone());
            let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            let path = request.path.split('?').next().unwrap_or_default();
            let (turn, events): (Turn, fn(&Value, &Turn) -> String) =
                match (request.method.as_str(), path) {
                    ("POST", path) if path.ends_with("/responses") => {
                        (responses::turn(&body, &self.script), responses::events)
                    }
                    ("POST", path) if path.ends_with("/chat/completions") => {
                        (chat::turn(&body, &self.script), chat::events)
                    }
                    ("POST", path) if path.ends_with("/messages") => {
                        (messages::turn(&body, &self.script), messages::events)
                    }
                    ("POST", path) if path.ends_with(":streamGenerateContent") => {
                        (gemini::turn(&body, &self.script), gemini::events)
                    }
                    ("POST", path) if path.ends_with(":generateContent") => {
                        let answer = gemini::whole(&gemini::turn(&body, &self.script));
                        http::reply(&mut stream, "200 OK", "application/json", &answer)?;
                        continue;
                    }
                    ("POST", path) if path.ends_with(":countTokens") => {
                        let kind = "application/json";
                        http::reply(&mut stream, "200 OK", kind, "{\"totalTokens\":1}")?;
                        continue;
                    }
                    ("POST", path) if path.ends_with("/count_tokens") => {
                        let kind = "application/json";
                        http::reply(&mut stream, "200 OK", kind, "{\"input_tokens\":1}")?;
                        continue;
                    }
                    _ => {
                        http::reply(&mut stream, "404 Not Found", "application/json", "{}")?;
                        continue;
                    }
                };
            let fault = self.note(body.clone());
            let is_short = matches!(fault, Fault::Short);
            let events = events(&body, &Turn { is_short, ..turn });
            if !fault.answer(&mut stream, &events)? {
                break;
            }
        }
        Ok(())
    }

    /// Keeps `body`, and says what is wrong with its request.
    fn note(&self, body: Value) -> Fault {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = self.faults.get(seen.len()).cloned();
        seen.push(body);
        fault.unwrap_or(Fault::None)
    }
}

/// One server-sent event.
fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
