//! Messages of ssh's agent protocol (draft-ietf-sshm-ssh-agent, and `PROTOCOL.agent` of OpenSSH),
//! read strictly: what is not wholly understood is no request.

use std::io::{self, Read, Write};

/// Longest message; in bytes. A request for a log-in has some hundred.
const MESSAGE_MAX: usize = 64 * 1024;

pub(crate) const FAILURE: u8 = 5;
pub(crate) const SUCCESS: u8 = 6;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION: u8 = 27;
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`.
const FLAGS: u32 = 2 | 4;

/// Longest name of a user, which a person reads when they are asked; in bytes.
const USER_MAX: usize = 256;

/// `SSH_MSG_USERAUTH_REQUEST` (RFC 4252).
const USERAUTH_REQUEST: u8 = 50;

/// What a program asks of its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// Which keys there are.
    Identities,
    /// A signature over `data`.
    Sign { key: &'a [u8], data: &'a [u8], flags: u32 },
    /// From here on it is about one session.
    Bind(Bind<'a>),
    /// What this agent does not do: to add and remove keys, to lock it.
    Other,
}

/// Who is at the other end of a session: the host's key has signed its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bind<'a> {
    pub(crate) host_key: &'a [u8],
    pub(crate) session: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// Whether it is a session by which others speak to this agent.
    pub(crate) is_forwarding: bool,
}

impl<'a> Request<'a> {
    /// Reads one message, without its length.
    pub(crate) fn read(message: &'a [u8]) -> Self {
        Self::understood(message).unwrap_or(Self::Other)
    }

    fn understood(message: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(message);
        let request = match fields.byte()? {
            REQUEST_IDENTITIES => Self::Identities,
            SIGN_REQUEST => {
                let (key, data) = (fields.string()?, fields.string()?);
                Self::Sign {
                    key,
                    data,
                    flags: fields.number().filter(|flags| flags & !FLAGS == 0)?,
                }
            }
            EXTENSION if fields.string()? == SESSION_BIND => Self::Bind(Bind {
                host_key: fields.string()?,
                session: fields.string()?,
                signature: fields.string()?,
                is_forwarding: fields.flag()?,
            }),
            _ => return None,
        };
        fields.end().then_some(request)
    }

    /// The message that [`Self::read`] reads so.
    pub(crate) fn message(&self) -> Vec<u8> {
        match self {
            Self::Identities => vec![REQUEST_IDENTITIES],
            Self::Sign { key, data, flags } => {
                let mut message = vec![SIGN_REQUEST];
                string(&mut message, key);
                string(&mut message, data);
                message.extend(flags.to_be_bytes());
                message
            }
            Self::Bind(Bind { host_key, session, signature, is_forwarding }) => {
                let mut message = vec![EXTENSION];
                for field in [SESSION_BIND, host_key, session, signature] {
                    string(&mut message, field);
                }
                message.push(u8::from(*is_forwarding));
                message
            }
            Self::Other => Vec::new(),
        }
    }
}

/// What is signed to log in (RFC 4252, section 7; `publickey-hostbound-v00@openssh.com`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginData<'a> {
    pub(crate) session: &'a [u8],
    pub(crate) user: &'a str,
    pub(crate) key: &'a [u8],
    /// The server's, where the method says it.
    pub(crate) host_key: Option<&'a [u8]>,
}

impl<'a> LoginData<'a> {
    /// `None` for everything else that can be signed.
    pub(crate) fn read(data: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(data);
        let session = fields.string()?;
        let is_request = fields.byte()? == USERAUTH_REQUEST;
        let user = fields.string().filter(|user| user.len() <= USER_MAX)?;
        let user = std::str::from_utf8(user).ok()?;
        let is_ssh = fields.string()? == b"ssh-connection";
        let is_bound = match fields.string()? {
            b"publickey" => false,
            b"publickey-hostbound-v00@openssh.com" => true,
            _ => return None,
        };
        let has_signature = fields.flag()?;
        let _algorithm = fields.string()?;
        let key = fields.string()?;
        let host_key = if is_bound { Some(fields.string()?) } else { None };
        (is_request && is_ssh && has_signature && fields.end()).then_some(Self {
            session,
            user,
            key,
            host_key,
        })
    }
}

/// The answer that lists `keys`, each with its comment.
pub(crate) fn identities(keys: &[(&[u8], &str)]) -> Vec<u8> {
    let mut message = vec![IDENTITIES_ANSWER];
    message.extend(u32::try_from(keys.len()).unwrap_or(0).to_be_bytes());
    for (key, comment) in keys {
        string(&mut message, key);
        string(&mut message, comment.as_bytes());
    }
    message
}

/// The keys that such an answer lists, with their comments.
pub(crate) fn read_identities(message: &[u8]) -> Option<Vec<(Vec<u8>, String)>> {
    let mut fields = Fields(message);
    if fields.byte()? != IDENTITIES_ANSWER {
        return None;
    }
    let count = fields.number()?;
    (0..count)
        .map(|_| {
            let (key, comment) = (fields.string()?, fields.string()?);
            Some((key.to_vec(), String::from_utf8_lossy(comment).into_owned()))
        })
        .collect()
}

/// The answer that holds a signature.
pub(crate) fn signed(signature: &[u8]) -> Vec<u8> {
    let mut message = vec![SIGN_RESPONSE];
    string(&mut message, signature);
    message
}

/// The signature that such an answer holds.
pub(crate) fn read_signed(message: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields(message);
    let is_one = fields.byte()? == SIGN_RESPONSE;
    let signature = fields.string()?;
    (is_one && fields.end()).then(|| signature.to_vec())
}

/// The next message on `stream`; `None` at its end.
pub(crate) fn receive(mut stream: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Sends one message.
pub(crate) fn send(mut stream: impl Write, message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(message.len() + 4);
    string(&mut framed, message);
    stream.write_all(&framed)
}

/// Appends a `string` of RFC 4251.
pub(crate) fn string(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(bytes);
}

/// Fields of RFC 4251 one after the other.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn flag(&mut self) -> Option<bool> {
        // Other values are true as well, by the RFC; nobody sends them.
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A positive `mpint`, without the zero that only says that it is positive.
    pub(crate) fn positive(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        match bytes {
            [0, rest @ ..] => rest.first().is_some_and(|first| *first >= 0x80).then_some(rest),
            [first, ..] => (*first < 0x80).then_some(bytes),
            [] => None,
        }
    }

    pub(crate) fn end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(parts: &[&[u8]]) -> Vec<u8> {
        let mut data = Vec::new();
        string(&mut data, b"SESSION");
        data.push(USERAUTH_REQUEST);
        for part in [b"git".as_slice(), b"ssh-connection", b"publickey"] {
            string(&mut data, part);
        }
        data.push(1);
        for part in parts {
            string(&mut data, part);
        }
        data
    }

    #[test]
    fn only_a_log_in_is_one() {
        let whole = data(&[b"ssh-ed25519", b"KEY"]);
        let read = LoginData::read(&whole).unwrap();
        assert_eq!((read.session, read.user, read.key), (&b"SESSION"[..], "git", &b"KEY"[..]));
        assert_eq!(read.host_key, None);
        for end in 0..whole.len() {
            assert_eq!(LoginData::read(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(LoginData::read(&[&whole[..], b"\0"].concat()), None, "something follows");
        assert_eq!(LoginData::read(&data(&[b"ssh-ed25519", b"KEY", b"HOST"])), None);
        // What `ssh-keygen -Y sign` signs (`PROTOCOL.sshsig`), and git commits with it.
        let mut signed = b"SSHSIG".to_vec();
        for part in [b"git".as_slice(), b"", b"sha512", &[7; 64]] {
            string(&mut signed, part);
        }
        assert_eq!(LoginData::read(&signed), None);
        assert_eq!(LoginData::read(b""), None);
    }

    #[test]
    fn messages_are_read_and_written() {
        let bind = Bind { host_key: b"K", session: b"S", signature: b"G", is_forwarding: true };
        let sign = Request::Sign { key: b"K", data: b"D", flags: 4 };
        for request in [Request::Identities, sign, Request::Bind(bind)] {
            let message = request.message();
            assert_eq!(Request::read(&message), request);
            assert_eq!(Request::read(&[&message[..], b"x"].concat()), Request::Other);
        }
        let odd = Request::Sign { key: b"K", data: b"D", flags: 8 };
        assert_eq!(Request::read(&odd.message()), Request::Other);
        let mut stream = Vec::new();
        send(&mut stream, &identities(&[(b"K", "me")])).unwrap();
        let answer = receive(&stream[..]).unwrap().unwrap();
        assert_eq!(read_identities(&answer), Some(vec![(b"K".to_vec(), "me".to_owned())]));
        assert_eq!(read_signed(&signed(b"G")), Some(b"G".to_vec()));
        assert!(receive(&[0xff; 9][..]).is_err() && receive(&[0; 0][..]).unwrap().is_none());
    }

    proptest! {
        /// What is understood is the same when it is written again; nothing panics.
        #[test]
        fn what_is_read_is_what_was_written(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let request = Request::read(&message);
            if request != Request::Other {
                prop_assert_eq!(request.message(), message.clone());
            }
            LoginData::read(&message);
            read_identities(&message);
        }

        #[test]
        fn so_is_a_binding(fields in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..40)), is_forwarding: bool) {
            let [host_key, session, signature] = &fields;
            let request = Request::Bind(Bind { host_key, session, signature, is_forwarding });
            let message = request.message();
            prop_assert_eq!(Request::read(&message), request);
        }
    }
}
