//! Where the network cuts the bytes makes no difference.

use super::pieces::{parts, requests};
use super::vectors::llhttp;
use proptest::prelude::*;

fn encode(chunks: &[Vec<u8>], trailers: bool) -> Vec<u8> {
    let mut out = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in chunks {
        out.extend(format!("{:x};n=\"{}\"\r\n", chunk.len(), chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(if trailers { &b"0\r\nA: b\r\n\r\n"[..] } else { b"0\r\n\r\n" });
    out
}

/// Bytes in which line ends and dashes are as frequent as they are dangerous.
fn dangerous() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()];
    proptest::collection::vec(byte, 1..200)
}

proptest! {
    #[test]
    fn chunks_decode_to_what_was_encoded(
        chunks in proptest::collection::vec(dangerous(), 0..8),
        trailers: bool,
        piece in 1usize..50,
    ) {
        let bytes = encode(&chunks, trailers);
        let (read, refusal) = requests(&[&bytes[..], &bytes[..]].concat(), piece);
        prop_assert_eq!(refusal, None);
        prop_assert_eq!(read.len(), 2);
        prop_assert_eq!(&read[0].1, &chunks.concat());
        prop_assert_eq!(&read[1].1, &chunks.concat());
    }

    #[test]
    fn damaged_chunks_are_judged_alike_however_they_are_cut(
        chunks in proptest::collection::vec(dangerous(), 1..4),
        at in any::<prop::sample::Index>(),
        byte: u8,
        piece in 1usize..50,
    ) {
        let mut bytes = encode(&chunks, true);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let whole = requests(&bytes, usize::MAX);
        let cut = requests(&bytes, piece);
        prop_assert_eq!(whole.1, cut.1);
        let bodies = |read: &[(_, Vec<u8>)]| read.iter().map(|r| r.1.clone()).collect::<Vec<_>>();
        prop_assert_eq!(bodies(&whole.0), bodies(&cut.0));
    }

    #[test]
    fn damaged_requests_are_judged_alike_however_they_are_cut(
        vector in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), dangerous()), 1..3),
        piece in 1usize..20,
    ) {
        let vectors = llhttp();
        let mut bytes = vectors[vector.index(vectors.len())].bytes();
        for (at, new) in damage {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + new.len() % 3);
            bytes.splice(at..end, new.into_iter().take(2));
        }
        let whole = requests(&bytes, usize::MAX);
        let cut = requests(&bytes, piece);
        prop_assert_eq!(format!("{whole:?}"), format!("{cut:?}"));
    }

    #[test]
    fn parts_come_back_however_they_are_cut(
        values in proptest::collection::vec(dangerous(), 0..5),
        piece in 1usize..100,
    ) {
        let boundary = "B-B--boundary";
        let mut body = Vec::new();
        for value in &values {
            let head = "Content-Disposition: form-data; name=\"f\"; filename=\"\"";
            body.extend(format!("--{boundary}\r\n{head}\r\n\r\n").bytes());
            body.extend(value);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let read = parts(&content_type, &body, piece).expect("a good form");
        let read: Vec<Vec<u8>> = read.into_iter().map(|part| part.3).collect();
        prop_assert_eq!(read, values);
    }

    #[test]
    fn a_damaged_form_is_judged_alike_however_it_is_cut(
        value in dangerous(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        piece in 1usize..100,
    ) {
        let head = b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        let mut body = [head, &value[..], b"\r\n--B--\r\n"].concat();
        let at = at.index(body.len());
        body[at] = byte;
        let judge = |piece| parts("multipart/form-data; boundary=B", &body, piece).ok();
        prop_assert_eq!(judge(usize::MAX), judge(piece));
    }
}
