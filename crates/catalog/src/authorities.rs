//! The cluster's certificate authorities, with their keys: who can read the bucket is a broker already, and signs its own certificate.
//!
//! ```text
//! ca/<number:020>     made where none is, never changed. All that are there are trusted, the newest signs
//! ```
//!
//! What a certificate says and who believes it is the business of `server`; here it is bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use world::bucket::{Bucket, BucketError, Stored, patiently, store};

use crate::encoding::{DecodeError, Decoder, Encoder, checksum};

const FOLDER: &str = "ca/";
const MAGIC: [u8; 8] = *b"OTLACAUT";
const AUTHORITY_VERSION: u16 = 1;
/// More than one is there only for as long as certificates of the older one are in use.
const AUTHORITIES_MAX: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// From 1 on; the highest signs.
    pub number: u64,
    /// DER.
    pub certificate: Bytes,
    /// PKCS #8, DER.
    pub private_key: Bytes,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("number", &self.number).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("{key} is no certificate authority of ottla: {what}")]
    Unreadable { key: String, what: String },
    #[error("{FOLDER} has more than {AUTHORITIES_MAX} certificate authorities")]
    TooMany,
}

/// The authorities of a bucket.
#[derive(Clone)]
pub struct Authorities {
    bucket: Arc<dyn Bucket>,
}

impl Authorities {
    pub fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket }
    }

    /// By number, the newest last.
    pub async fn list(&self) -> Result<Vec<Authority>, AuthorityError> {
        let listed = patiently(PATIENCE, || self.bucket.list(FOLDER, None, AUTHORITIES_MAX + 1)).await?;
        if listed.len() > AUTHORITIES_MAX {
            return Err(AuthorityError::TooMany);
        }
        let mut authorities = Vec::with_capacity(listed.len());
        for listed in listed {
            // Removed since, perhaps.
            let object = patiently(PATIENCE, || self.bucket.get(&listed.key)).await?;
            authorities.extend(object.map(|object| decode(&listed.key, &object.bytes)).transpose()?);
        }
        Ok(authorities)
    }

    /// Of all who add the same number one is the first, and all get that one.
    pub async fn add(&self, new: Authority) -> Result<Authority, AuthorityError> {
        let key = key(new.number);
        match store(&*self.bucket, &key, &encode(&new), PATIENCE).await {
            Ok(Stored::Own) => Ok(new),
            Ok(Stored::Other(object)) => decode(&key, &object.bytes),
            Err(failed) => Err(failed.error.into()),
        }
    }
}

fn key(number: u64) -> String {
    format!("{FOLDER}{number:020}")
}

fn encode(authority: &Authority) -> Bytes {
    let mut out = Encoder::with_capacity(1024);
    out.raw(&MAGIC);
    out.u16(AUTHORITY_VERSION);
    out.u16(0);
    for part in [&authority.certificate, &authority.private_key] {
        out.count(part.len());
        out.raw(part);
    }
    let mut bytes = out.finish();
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    bytes.into()
}

fn decode(key: &str, bytes: &[u8]) -> Result<Authority, AuthorityError> {
    let unreadable = |what: String| AuthorityError::Unreadable { key: key.to_owned(), what };
    let digits = key.strip_prefix(FOLDER).filter(|digits| digits.len() == 20);
    let number = digits.and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| unreadable("its name is no number".to_owned()))?;
    let whole = bytes.split_at_checked(bytes.len().saturating_sub(4));
    let fields =
        whole.filter(|(fields, crc)| checksum(fields).to_le_bytes() == **crc).map(|(fields, _)| fields);
    let fields = fields.and_then(|fields| fields.strip_prefix(&MAGIC));
    let fields = fields.ok_or_else(|| unreadable("damaged".to_owned()))?;
    let mut fields = Decoder::new(fields, "certificate authority");
    let mut read = || -> Result<(u16, Bytes, Bytes), DecodeError> {
        let version = fields.u16()?;
        fields.u16()?;
        let mut part = || -> Result<Bytes, DecodeError> {
            let len = fields.u32()? as usize;
            Ok(Bytes::copy_from_slice(fields.take(len)?))
        };
        Ok((version, part()?, part()?))
    };
    match read().map_err(|error| unreadable(error.to_string()))? {
        (AUTHORITY_VERSION, certificate, private_key) => Ok(Authority { number, certificate, private_key }),
        (version, ..) => Err(unreadable(format!("format {version} is newer than this release of ottla"))),
    }
}

#[cfg(test)]
mod tests {
    use world::bucket::MemBucket;
    use world::task;

    use super::*;

    fn authority(number: u64, text: &'static str) -> Authority {
        let (certificate, private_key) = (Bytes::from_static(text.as_bytes()), Bytes::from_static(b"key"));
        Authority { number, certificate, private_key }
    }

    #[test]
    fn of_two_who_make_the_first_one_both_have_the_same() {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let bucket = MemBucket::new(1);
            let authorities = Authorities::new(Arc::new(bucket.clone()));
            assert_eq!(authorities.list().await.unwrap(), []);
            assert_eq!(authorities.add(authority(1, "one")).await.unwrap(), authority(1, "one"));
            assert_eq!(authorities.add(authority(1, "other")).await.unwrap(), authority(1, "one"));
            authorities.add(authority(2, "two")).await.unwrap();
            assert_eq!(authorities.list().await.unwrap(), [authority(1, "one"), authority(2, "two")]);
            bucket.put("ca/what", Bytes::from_static(b"?")).await.unwrap();
            assert!(matches!(authorities.list().await, Err(AuthorityError::Unreadable { .. })));
        });
    }

    #[test]
    fn damage_and_newer_formats_are_refused() {
        let (key, bytes) = (key(3), encode(&authority(3, "three")));
        assert_eq!(decode(&key, &bytes).unwrap(), authority(3, "three"));
        for at in 0..bytes.len() {
            let mut torn = bytes.to_vec();
            torn[at] ^= 1;
            assert!(decode(&key, &torn).is_err(), "byte {at}");
        }
        let mut newer = bytes[..bytes.len() - 4].to_vec();
        newer[8] = 2;
        newer.extend_from_slice(&checksum(&newer).to_le_bytes());
        assert!(decode(&key, &newer).unwrap_err().to_string().contains("newer"));
        assert!(decode("ca/1", &bytes).is_err() && decode(&key, b"").is_err());
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", authority(1, "x")), "Authority { number: 1, .. }");
    }
}
