//! Private keys that are no longer in use, and the memory of the process that had them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};

use cli::pki::Leaf;

use crate::world::{Pki, Server, skipped, spec};

const ROTATIONS: usize = 8;

/// The secret number of a key on P-256, as PKCS#8 and SEC1 write it (RFC 5915 §3).
fn secret(leaf: &Leaf) -> Vec<u8> {
    const BEFORE: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];
    let key = pem::parse(&leaf.key_pem).unwrap();
    let der = key.contents();
    let at = der.windows(5).position(|bytes| bytes == BEFORE).unwrap();
    der[at + 5..at + 37].to_vec()
}

/// A line of the text of a key that has a good part of its secret number.
fn line(leaf: &Leaf) -> Vec<u8> {
    leaf.key_pem.lines().nth(1).unwrap().as_bytes().to_vec()
}

/// What of `wanted` is in the memory that a process may write to.
fn found<'a>(process: u32, wanted: &[(&'a str, Vec<u8>)]) -> io::Result<Vec<&'a str>> {
    let mut memory = File::open(format!("/proc/{process}/mem"))?;
    let mut found = Vec::new();
    for region in fs::read_to_string(format!("/proc/{process}/maps"))?.lines() {
        let mut fields = region.split_ascii_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.seek(SeekFrom::Start(from))?;
        // It may have gone since.
        if memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        let has = |what: &[u8]| bytes.windows(what.len()).any(|bytes| bytes == what);
        found.extend(
            wanted
                .iter()
                .filter(|(_, it)| has(it))
                .map(|(what, _)| *what),
        );
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_that_was_replaced_is_not_left_in_memory() {
    let pki = Pki::new();
    let mut leaf = pki.issue("echo", &spec("echo"));
    let server = Server::start(&pki, &[]);
    let mut wanted = Vec::new();
    for rotation in 0..ROTATIONS {
        wanted.push(("a secret number", secret(&leaf)));
        wanted.push(("a line of a key", line(&leaf)));
        leaf = pki.issue("echo", &spec("echo"));
        let generation = rotation + 2;
        server.log.wait(|line| {
            line["message"] == "credentials in use" && line["generation"] == generation
        });
    }
    // What is in use is there, so that whatever is there is found.
    let certificate = pem::parse(&leaf.chain_pem).unwrap().into_contents();
    wanted.push(("the certificate in use", certificate));
    match found(server.id(), &wanted) {
        Ok(mut found) => {
            found.dedup();
            assert_eq!(found, ["the certificate in use"]);
        }
        Err(error) => skipped(&format!("right to read the memory of a process: {error}")),
    }
}
