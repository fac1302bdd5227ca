use proptest::prelude::*;

use super::*;

fn vector(bytes: &[u8]) -> Vec<u8> {
    let mut vector = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    vector.extend(bytes);
    vector
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut extension = kind.to_be_bytes().to_vec();
    extension.extend(vector(data));
    extension
}

fn sni(name: &[u8]) -> Vec<u8> {
    let mut entry = vec![0];
    entry.extend(vector(name));
    extension(SERVER_NAME, &vector(&entry))
}

fn body(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(vector(extensions));
    body
}

fn message_of(body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    message[0] = CLIENT_HELLO;
    message.extend(body);
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for fragment in message.chunks(size) {
        stream.extend([HANDSHAKE, 3, 1]);
        stream.extend(vector(fragment));
    }
    stream
}

fn stream(extensions: &[u8]) -> Vec<u8> {
    records(&message_of(&body(extensions)), RECORD_MAX)
}

/// The name in `stream`, which is all of a hello.
fn found(stream: &[u8], is_second: bool) -> Option<String> {
    match read(stream, is_second) {
        Hello::Named(name, length) => {
            assert_eq!(length, stream.len());
            Some(name.map_or(String::new(), |name| name.to_string()))
        }
        Hello::Partial | Hello::Broken(_) => None,
    }
}

#[test]
fn the_name_is_found_among_other_extensions() {
    let mut extensions = extension(0x0a0a, &[]);
    extensions.extend(extension(16, &[0, 3, 2, b'h', b'2']));
    extensions.extend(sni(b"Example.ORG"));
    extensions.extend(extension(43, &[2, 3, 4]));
    let one = stream(&extensions);
    assert_eq!(found(&one, false).as_deref(), Some("example.org"));
    assert_eq!(found(&stream(&[]), false).as_deref(), Some(""));
    let mut more = one.clone();
    more.extend([23, 3, 3, 0, 1, 0]);
    assert!(matches!(read(&more, false), Hello::Named(Some(_), length) if length == one.len()));
}

#[test]
fn a_hello_that_hides_its_name_is_broken() {
    let mut two = sni(b"example.org");
    two.extend(sni(b"evil.org"));
    let mut list = vec![0];
    list.extend(vector(b"example.org"));
    list.push(0);
    list.extend(vector(b"evil.org"));
    let mut trailing = body(&sni(b"example.org"));
    trailing.push(0);
    for (what, stream) in [
        ("twice", stream(&two)),
        ("two in one list", stream(&extension(SERVER_NAME, &vector(&list)))),
        ("NUL", stream(&sni(b"evil.org\0.example.org"))),
        ("empty", stream(&sni(b""))),
        ("an address", stream(&sni(b"127.0.0.1"))),
        ("not UTF-8", stream(&sni(b"\xff.org"))),
        ("bytes after it", records(&message_of(&trailing), RECORD_MAX)),
        (
            "another message",
            records(
                &{
                    let mut two = message_of(&body(&sni(b"example.org")));
                    two.extend(message_of(&body(&sni(b"evil.org"))));
                    two
                },
                RECORD_MAX,
            ),
        ),
        ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
        ("a long record", vec![HANDSHAKE, 3, 1, 0xff, 0xff]),
        ("an alert first", vec![21, 3, 1, 0, 2, 1, 0]),
        ("another version", vec![HANDSHAKE, 2, 1, 0, 2, 1, 0]),
        ("a certificate first", records(&[11, 0, 0, 0], 99)),
        ("a huge one", records(&[1, 0xff, 0, 0], 99)),
    ] {
        assert!(matches!(read(&stream, false), Hello::Broken(_)), "{what}");
    }
}

#[test]
fn a_second_hello_may_follow_an_empty_change() {
    let mut stream_of_two = vec![CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];
    stream_of_two.extend(stream(&sni(b"example.org")));
    assert_eq!(found(&stream_of_two, true).as_deref(), Some("example.org"));
    assert!(matches!(read(&stream_of_two, false), Hello::Broken(_)));
}

#[test]
fn a_server_that_asks_again_is_recognised() {
    let mut retry = vec![HANDSHAKE, 3, 3, 0, 88, SERVER_HELLO, 0, 0, 84, 3, 3];
    retry.extend(RETRY);
    assert_eq!(asks_again(&retry), Some(true));
    for length in 0..retry.len() {
        assert_eq!(asks_again(&retry[..length]), None, "{length}");
    }
    retry[20] ^= 1;
    assert_eq!(asks_again(&retry), Some(false));
    assert_eq!(asks_again(&[21, 3, 3, 0, 2, 2, 112]), Some(false), "an alert");
    assert_eq!(asks_again(b"SSH-2.0"), Some(false));
}

proptest! {
    /// However it is cut into records and however it arrives, the name is the same.
    #[test]
    fn cuts_do_not_matter(size in 1_usize..400, upto in 0_usize..400) {
        let mut extensions = sni(b"example.org");
        extensions.extend(extension(21, &[0; 120]));
        let whole = records(&message_of(&body(&extensions)), size);
        prop_assert_eq!(found(&whole, false), Some("example.org".to_owned()));
        if upto < whole.len() {
            prop_assert_eq!(read(&whole[..upto], false), Hello::Partial);
        }
    }

    #[test]
    fn no_stream_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), second in any::<bool>()) {
        read(&bytes, second);
        asks_again(&bytes);
        let mut framed = vec![HANDSHAKE, 3, 1];
        framed.extend(vector(&message_of(&bytes)));
        read(&framed, second);
    }
}
