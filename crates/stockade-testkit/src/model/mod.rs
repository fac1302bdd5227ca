//! A model server that follows a script, on the loopback.
//!
//! It speaks what agents speak to a model: the Responses API and the Messages API, streamed.
//! Where in the script a conversation stands is read from the conversation itself (how many
//! tool results it holds), so that retries and side questions do not disturb it.

mod http;
mod messages;
mod responses;

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use http::Request;

/// What the model does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Asks for a shell command.
    Shell(String),
    /// Says something, and thereby ends its turn.
    Say(String),
}

/// A running server; it ends with the process.
#[derive(Debug)]
pub struct FakeModel {
    port: u16,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl FakeModel {
    /// Starts serving `script` on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had.
    pub fn start(script: Vec<Step>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let script = Arc::new(script);
        thread::Builder::new().name("model".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                thread::spawn(move || {
                    // A client that goes away in the middle has its reasons.
                    serve(stream, &script, &seen).ok();
                });
            }
        })?;
        Ok(Self { port, requests })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The bodies of all requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut stream: TcpStream, script: &[Step], seen: &Mutex<Vec<Value>>) -> io::Result<()> {
    while let Some(request) = Request::read(&mut stream)? {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(body.clone());
        let path = request.path.split('?').next().unwrap_or_default();
        let events = match (request.method.as_str(), path) {
            ("POST", path) if path.ends_with("/responses") => responses::answer(&body, script),
            ("POST", path) if path.ends_with("/messages") => messages::answer(&body, script),
            ("POST", path) if path.ends_with("/count_tokens") => {
                http::reply(&mut stream, "200 OK", "application/json", "{\"input_tokens\":1}")?;
                continue;
            }
            _ => {
                http::reply(&mut stream, "404 Not Found", "application/json", "{}")?;
                continue;
            }
        };
        http::reply(&mut stream, "200 OK", "text/event-stream", &events)?;
    }
    Ok(())
}

/// One server-sent event.
fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
