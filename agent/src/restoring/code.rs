//! The join code: what a human carries from the master that started a restore to those that join. No I/O.
//!
//! It holds the restore's key and the digest of its order, so that a machine that knows no key of the installation believes
//! this order and no other. Whoever has it can speak for the restore: it is worth as much as root on a master.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lifeboat_crds::mac::RestoreKey;
use lifeboat_crds::order::OrderDigest;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What it begins with, so that nobody takes it for something else.
const PREFIX: &str = "lifeboat-join-";
const KEY: usize = 32;
const DIGEST: usize = 32;
/// Of SHA-256 over both, so that a slip of the hand is told from another restore.
const CHECK: usize = 4;

/// A join code.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCode {
    /// The restore's key.
    pub key: RestoreKey,
    /// The order.
    pub digest: OrderDigest,
}

/// A text that is no join code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no join code: copy the whole of it, from {PREFIX} on, as `lifeboat restore start` printed it")]
pub struct NotACode;

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinCode(…)")
    }
}

impl JoinCode {
    /// The text that people copy.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.key.as_bytes().to_vec());
        bytes.extend(hex::decode(self.digest.as_str()).unwrap_or_default());
        let check = Sha256::digest(&bytes);
        bytes.extend(&check[..CHECK]);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes)))
    }
}

impl FromStr for JoinCode {
    type Err = NotACode;

    fn from_str(text: &str) -> Result<Self, NotACode> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(NotACode)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotACode)?);
        let (content, check) = bytes.split_at_checked(KEY + DIGEST).ok_or(NotACode)?;
        if check != &Sha256::digest(content)[..CHECK] {
            return Err(NotACode);
        }
        let (key, digest) = content.split_at(KEY);
        let key = RestoreKey::new(key.try_into().map_err(|_| NotACode)?);
        Ok(Self { key, digest: hex::encode(digest).parse().map_err(|_| NotACode)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_a_slip_is_noticed_at_every_letter() {
        let code = JoinCode { key: RestoreKey::new([7; 32]), digest: "3f".repeat(32).parse().unwrap() };
        let text = code.reveal();
        assert_eq!(format!(" {}\n", *text).parse::<JoinCode>(), Ok(code));
        for at in PREFIX.len()..text.len() {
            let mut slip = text.as_bytes().to_vec();
            slip[at] = if slip[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(String::from_utf8(slip).unwrap().parse::<JoinCode>(), Err(NotACode), "at {at}");
        }
        assert!(text[..text.len() - 1].parse::<JoinCode>().is_err() && "hello".parse::<JoinCode>().is_err());
    }
}
