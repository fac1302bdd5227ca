//! Who asks for a connection and what allowed it: decided once, before it is dialled, and kept with it
//! to its end.

use std::net::TcpStream;

use crate::event::Caller;

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// An entry; how it is told.
    Entry(String),
    /// A person's answer, as long as it is not taken back.
    Answer,
    /// A person's answer for the connections that waited.
    AnswerOnce,
    /// It stays inside: a server of the sandbox's own, by the proxy.
    Inside,
    /// The endpoint that the user gave.
    Endpoint,
}

impl Allowed {
    /// How a record tells it.
    pub(crate) fn rule(&self) -> String {
        match self {
            Self::Entry(rule) => rule.clone(),
            Self::Answer | Self::AnswerOnce => "allowed by an answer".to_owned(),
            Self::Inside => "a server inside".to_owned(),
            Self::Endpoint => "the agent's model".to_owned(),
        }
    }
}

/// A server that is connected.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) server: TcpStream,
    pub(crate) allowed: Allowed,
}

/// By which way a program asks for a host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By<'a> {
    /// It connected to an address of the host's inside.
    Address(&'a Caller),
    /// It speaks to the proxy; who it is is known where it connected to that.
    Proxy(Option<&'a Caller>),
    /// It speaks to the endpoint, and asks for none.
    Endpoint,
}

impl By<'_> {
    pub(crate) fn caller(self) -> Option<Caller> {
        match self {
            Self::Address(caller) => Some(caller.clone()),
            Self::Proxy(caller) => caller.cloned(),
            Self::Endpoint => None,
        }
    }

    pub(crate) fn process(self) -> Option<u32> {
        match self {
            Self::Address(caller) => Some(caller.process),
            Self::Proxy(caller) => caller.map(|caller| caller.process),
            Self::Endpoint => None,
        }
    }
}
