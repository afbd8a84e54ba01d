//! The fuzzers' entries on golden bytes, mutated golden bytes and noise: a bounded count in every
//! `cargo test`, on the stable toolchain. The real fuzzing is in `/fuzz`.

use bytes::Bytes;

use protocol::batch::BatchBuilder;
use protocol::compression::Compression;

use crate::fuzz_entries;
use crate::java;
use crate::schema::Random;

/// Changes a few bytes, cuts, or repeats: the mutations that find lengths and counts.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            bytes.push(random.next() as u8);
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes.truncate(at),
            4 => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill([0xff, 0x7f, 0][random.below(3)]);
            }
        }
    }
}

fn noise(random: &mut Random) -> Vec<u8> {
    (0..random.below(200)).map(|_| random.next() as u8 & if random.one_in(2) { 0x0f } else { 0xff }).collect()
}

#[test]
fn messages() {
    let mut random = Random(1);
    for (name, version, body) in java::filled() {
        let choice = fuzz_entries::choice_of(name, version).expect("a vector of a message we have");
        for round in 0..12 {
            let mut body = body.clone();
            if round > 0 {
                mutate(&mut body, &mut random);
            }
            fuzz_entries::message(&[&choice.to_be_bytes()[..], &body].concat());
        }
    }
    for _ in 0..5_000 {
        fuzz_entries::message(&noise(&mut random));
    }
}

#[test]
fn request_frames() {
    let mut random = Random(2);
    let row =
        |name| protocol::messages::all::ALL.iter().find(|row| row.name == name).expect("a listed message");
    for (name, version, body) in java::filled().filter(|(name, ..)| name.ends_with("Request")) {
        let key = protocol::ApiKey::try_from(row(name).key.expect("a request has a key")).unwrap();
        let mut frame = [key.code().to_be_bytes(), version.to_be_bytes()].concat();
        frame.extend([0, 0, 0, 9, 0, 1, b'c']);
        if key.request_header_version(version) == 2 {
            frame.push(0);
        }
        frame.extend(body);
        fuzz_entries::request_frame(&frame);
        for _ in 0..6 {
            let mut frame = frame.clone();
            mutate(&mut frame, &mut random);
            fuzz_entries::request_frame(&frame);
        }
    }
    for _ in 0..5_000 {
        fuzz_entries::request_frame(&noise(&mut random));
    }
}

pub fn batches() -> Vec<Bytes> {
    let mut batches = Vec::new();
    for compression in Compression::ALL {
        for records in [1, 40] {
            let mut builder = BatchBuilder::new().compression(compression).producer(7, 1, 5);
            for number in 0..records {
                let key = format!("key-{number}");
                let (key, value) = (Some(key.as_bytes()), Some(&b"value value value"[..]));
                builder.append(1_700_000_000_000 + number, key, value, &[]).expect("room for a record");
            }
            batches.push(builder.build().expect("a batch"));
        }
    }
    batches
}

#[test]
fn record_batches() {
    let mut random = Random(3);
    for batch in batches() {
        fuzz_entries::record_batches(&batch);
        for _ in 0..300 {
            let mut bytes = batch.to_vec();
            mutate(&mut bytes, &mut random);
            fuzz_entries::record_batches(&bytes);
        }
    }
    for _ in 0..2_000 {
        fuzz_entries::record_batches(&noise(&mut random));
    }
}
