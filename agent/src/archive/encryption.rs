//! Archives that only the holder of a private key can read: age, whose stock tool decrypts them without Lifeboat.
//!
//! Masters know public keys alone. A private key comes from a file that an administrator names at a terminal, stays in
//! memory, and is in no message. Opens nothing.

use std::io::{self, Read, Write};

use age::stream::{StreamReader, StreamWriter};
use age::x25519;
use lifeboat_crds::location::Encryption;

/// Why there is nobody to encrypt to. The location's field must be mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// A text that is no recipient.
    #[error(
        "spec.encryption.recipients[{index}] ({shown}) is no age recipient ({words}): give the public key that \
         age-keygen prints, age1…"
    )]
    NotOne {
        /// Which, from 0.
        index: usize,
        /// Its beginning, or nothing of it where it might be a private key.
        shown: String,
        /// Why not.
        words: &'static str,
    },
    /// None at all.
    #[error("spec.encryption.recipients is empty: name at least one age recipient, or remove spec.encryption")]
    None,
}

/// Why there is no private key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A line that is no key. The line is not repeated.
    #[error(
        "line {line} is no age identity of the kind AGE-SECRET-KEY-1…: the file is the one that age-keygen wrote; a key \
         under a passphrase or of a plugin works with the tool age alone"
    )]
    NotOne {
        /// Which, from 1.
        line: usize,
    },
    /// No line at all.
    #[error("it holds no age identity: the file is the one that age-keygen wrote, with a line AGE-SECRET-KEY-1…")]
    None,
}

/// To whom an archive is encrypted, at least one.
#[derive(Clone, Debug)]
pub struct Recipients(Vec<x25519::Recipient>);

/// Reads the recipients of a location.
///
/// # Errors
/// Which of them is none.
pub fn parse_recipients(encryption: &Encryption) -> Result<Recipients, RecipientError> {
    let Encryption { recipients } = encryption;
    let parsed: Result<Vec<_>, _> = recipients
        .iter()
        .enumerate()
        .map(|(index, text)| {
            text.parse().map_err(|words| RecipientError::NotOne {
                index,
                shown: show(text),
                words: explain(text, words),
            })
        })
        .collect();
    match parsed? {
        none if none.is_empty() => Err(RecipientError::None),
        some => Ok(Recipients(some)),
    }
}

/// Enough to find it again. Whoever put a private key there must not read it in every status.
fn show(text: &str) -> String {
    match text.get(..4) {
        Some(start) if start.eq_ignore_ascii_case("age1") => text.chars().take(16).collect::<String>() + "…",
        Some(_) | None => "not shown".to_owned(),
    }
}

fn explain(text: &str, words: &'static str) -> &'static str {
    let starts = |with: &str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if starts("AGE-SECRET-KEY-") {
        "it is a PRIVATE key: treat it as known to others, and make a new pair"
    } else if starts("ssh-") {
        "keys of SSH are not supported"
    } else {
        words
    }
}

impl Recipients {
    /// As they were given.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// Private keys.
pub struct Identities(Vec<x25519::Identity>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

/// Reads the text of an age identity file: a key a line, comments and empty lines between them.
///
/// # Errors
/// A line is something else, or there is none.
pub fn parse_identities(text: &str) -> Result<Identities, IdentityError> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<_>, _> =
        lines.map(|(number, line)| line.parse().map_err(|_| IdentityError::NotOne { line: number + 1 })).collect();
    match keys? {
        none if none.is_empty() => Err(IdentityError::None),
        some => Ok(Identities(some)),
    }
}

/// Bytes on their way out, encrypted where there are recipients.
pub enum Sealed<W> {
    /// As they are.
    Plain(W),
    /// For recipients only.
    Encrypted(StreamWriter<W>),
}

impl<W: Write> Sealed<W> {
    /// Everything written into it goes to `sink`, encrypted to the recipients if there are any.
    ///
    /// # Errors
    /// What the sink says to the first bytes.
    pub fn new(sink: W, recipients: Option<&Recipients>) -> io::Result<Self> {
        let Some(Recipients(recipients)) = recipients else { return Ok(Self::Plain(sink)) };
        let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        encryptor.wrap_output(sink).map(Self::Encrypted)
    }

    /// Writes what is still held back and gives the sink.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Encrypted(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(sink) => sink.write(bytes),
            Self::Encrypted(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.flush(),
            Self::Encrypted(writer) => writer.flush(),
        }
    }
}

/// Bytes on their way in, decrypted where there are identities.
pub enum Unsealed<R> {
    /// As they are.
    Plain(R),
    /// For one of the identities.
    Decrypted(Box<StreamReader<R>>),
}

impl<R: Read> Unsealed<R> {
    /// Reads `source`, which is encrypted if and only if there are identities.
    ///
    /// # Errors
    /// It is no age file, was altered, or none of the identities opens it.
    pub fn new(source: R, identities: Option<&Identities>) -> Result<Self, age::DecryptError> {
        let Some(Identities(identities)) = identities else { return Ok(Self::Plain(source)) };
        let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
        let reader = age::Decryptor::new(source)?.decrypt(identities)?;
        Ok(Self::Decrypted(Box::new(reader)))
    }
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Decrypted(reader) => reader.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    fn encryption(recipients: &[&str]) -> Encryption {
        Encryption { recipients: recipients.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn what_is_encrypted_is_read_by_each_recipient_and_by_nobody_else() {
        let keys = [x25519::Identity::generate(), x25519::Identity::generate()];
        let texts = keys.each_ref().map(|key| key.to_public().to_string());
        let recipients = parse_recipients(&encryption(&texts.each_ref().map(String::as_str))).unwrap();
        assert_eq!(recipients.to_strings(), texts);
        let plain: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
        let mut sealed = Sealed::new(Vec::new(), Some(&recipients)).unwrap();
        sealed.write_all(&plain).unwrap();
        let stored = sealed.finish().unwrap();
        assert!(!stored.windows(64).any(|window| window == &plain[..64]));
        for key in &keys {
            let file = format!("# created: today\n\n{}\n", key.to_string().expose_secret());
            let identities = parse_identities(&file).unwrap();
            let mut read = Vec::new();
            Unsealed::new(&stored[..], Some(&identities)).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, plain);
        }
        let stranger = Identities(vec![x25519::Identity::generate()]);
        assert!(matches!(
            Unsealed::new(&stored[..], Some(&stranger)).map(|_| ()),
            Err(age::DecryptError::NoMatchingKeys)
        ));
        // A stream that was cut off never reads as a whole one.
        let cut = &stored[..stored.len() - 1000];
        let identities = Identities(keys.to_vec());
        let mut read = Vec::new();
        assert!(Unsealed::new(cut, Some(&identities)).unwrap().read_to_end(&mut read).is_err());
    }

    #[test]
    fn a_recipient_that_is_none_is_named_and_no_secret_shown() {
        let good = x25519::Identity::generate().to_public().to_string();
        let error = parse_recipients(&encryption(&[&good, "age1qqqq"])).unwrap_err().to_string();
        assert!(error.contains("recipients[1]") && error.contains("age1qqqq"), "{error}");
        let private = x25519::Identity::generate().to_string();
        let error = parse_recipients(&encryption(&[private.expose_secret()])).unwrap_err().to_string();
        assert!(error.contains("PRIVATE"), "{error}");
        assert!(!error.to_lowercase().contains(&private.expose_secret().to_lowercase()[15..30]), "{error}");
        let error = parse_recipients(&encryption(&["ssh-ed25519 AAAA"])).unwrap_err().to_string();
        assert!(error.contains("SSH"), "{error}");
        assert_eq!(parse_recipients(&encryption(&[])).unwrap_err(), RecipientError::None);
    }

    #[test]
    fn a_file_without_identity_is_told_without_its_lines() {
        let error = parse_identities("# key\n\nhunter2\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && !error.contains("hunter2"), "{error}");
        assert!(matches!(parse_identities("# nothing\n").unwrap_err(), IdentityError::None));
    }
}
