use std::net::{Shutdown, TcpListener};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

use super::*;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// How a connection to `a.org` ends on which a program says this, and no more.
fn ended(said: &[u8]) -> Ending {
    let ((mut program, inside), (outside, _server)) = (pair(), pair());
    program.write_all(said).unwrap();
    program.shutdown(Shutdown::Write).unwrap();
    let authority = Authority::new().unwrap();
    carry((&inside, &outside), &authority, &Dialled::only("a.org:443"), &[])
}

fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_program_that_breaks_off_was_not_refused() {
    for said in [hello("a.org"), hello("a.org")[..40].to_vec(), b"\x16\x03\x01\0\x05xxxxx".to_vec()]
    {
        let ending = ended(&said);
        assert!(ending.refusal.is_none(), "{ending:?}");
        assert!(ending.failure.is_some_and(|why| why.contains("came to nothing")));
    }
}

#[test]
fn a_program_that_names_somebody_else_was() {
    let ending = ended(&hello("b.org"));
    assert!(ending.failure.is_none(), "{ending:?}");
    assert!(ending.refusal.is_some_and(|why| why.contains("`b.org`")));
}
