//! The key of the privileged door: one shared secret, and tokens that prove it.
//!
//! As Ethereum's engine API does it: HS256 alone, the claim `iat` within [`IAT_WINDOW_S`] of now, so that a stolen token
//! is soon worth nothing. `exp` is not needed, but a token that carries one is refused once it is past. The secret is a
//! file of 64 hex digits that only its owner may read. The clock is an argument.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Seconds that `iat` may lie before or after now.
pub const IAT_WINDOW_S: u64 = 60;
/// A secret file holds 64 digits, perhaps `0x` and some white space; anything larger is another file.
const FILE_BYTES_MAX: u64 = 256;
/// A token is a header, a few claims and a signature.
const TOKEN_BYTES_MAX: usize = 4096;

/// The 32 bytes that both sides hold. Never printed.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text is not a secret.
    #[error("a JWT secret is 32 bytes as 64 hex digits{}", .path.as_ref().map(|p| format!(": {}", p.display())).unwrap_or_default())]
    Malformed {
        /// The file, when it came from one.
        path: Option<PathBuf>,
    },
    /// The file cannot be read or made.
    #[error("JWT secret {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        error: io::Error,
    },
}

/// Why a token is refused. Says nothing of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No `Authorization: Bearer …`.
    #[error("no bearer token")]
    Missing,
    /// Not a token, or not of this secret, or of another algorithm than HS256.
    #[error("not a valid HS256 token of this node's secret")]
    Invalid,
    /// Made too long ago, or in the future.
    #[error("iat {iat} is not within {IAT_WINDOW_S} s of this node's clock, {now}")]
    Stale {
        /// When the token says it was made.
        iat: u64,
        /// Our clock.
        now: u64,
    },
    /// Past its own `exp`.
    #[error("expired at {exp}, and it is {now}")]
    Expired {
        /// The token's end.
        exp: u64,
        /// Our clock.
        now: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
}

impl Secret {
    /// A fresh one, from the process' cryptographic generator.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// A secret from 64 hex digits; `0x` in front and white space around are allowed, as other nodes write them so.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let mut bytes = [0; 32];
        match const_hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(SecretError::Malformed { path: None }),
        }
    }

    /// The secret of a file.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let file = |error| SecretError::File { path: path.into(), error };
        let mut text = String::new();
        match fs::File::open(path).map_err(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(SecretError::Malformed { path: Some(path.into()) });
            }
            Err(error) => return Err(file(error)),
        }
        Self::parse(&text).map_err(|_| SecretError::Malformed { path: Some(path.into()) })
    }

    /// The secret of a file, which is made (mode 0600, synced) when it is not there.
    ///
    /// A file that appears half-made is never seen: it is written aside and linked into place, and whoever links first
    /// wins.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::load(path) {
            Err(SecretError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let file = |error| SecretError::File { path: path.into(), error };
        let secret = Self::random();
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        let made = secret.write_new(&aside).and_then(|()| fs::hard_link(&aside, path));
        let _ = fs::remove_file(&aside);
        match made {
            Ok(()) => Ok(secret),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(file(error)),
        }
    }

    /// A token made `now` (seconds since 1970).
    pub fn token(&self, now: u64) -> String {
        let claims = Claims { iat: now, exp: None };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(&self.0))
            .expect("HS256 over two numbers cannot fail")
    }

    /// Whether an `Authorization` header proves the secret at `now` (seconds since 1970).
    pub fn verify_header(&self, header: Option<&[u8]>, now: u64) -> Result<(), TokenError> {
        let header = header.ok_or(TokenError::Missing)?;
        // The scheme's name has no case (RFC 9110 §11.1).
        let (scheme, token) = header.split_at_checked(7).ok_or(TokenError::Missing)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(TokenError::Missing);
        }
        self.verify(token.trim_ascii(), now)
    }

    /// Whether a token proves the secret at `now` (seconds since 1970).
    pub fn verify(&self, token: &[u8], now: u64) -> Result<(), TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let mut rules = Validation::new(Algorithm::HS256);
        // Times are judged below, by the clock we were given.
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(&self.0), &rules)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.iat.abs_diff(now) > IAT_WINDOW_S {
            return Err(TokenError::Stale { iat: claims.iat, now });
        }
        match claims.exp {
            Some(exp) if exp < now => Err(TokenError::Expired { exp, now }),
            _ => Ok(()),
        }
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let _ = fs::remove_file(path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(const_hex::encode(self.0).as_bytes())?;
        file.sync_all()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn signed(secret: &Secret, algorithm: Algorithm, claims: serde_json::Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(&secret.0)).unwrap()
    }

    #[test]
    fn only_fresh_hs256_tokens_of_the_secret_pass() {
        let (ours, theirs) = (Secret([1; 32]), Secret([2; 32]));
        let hs256 = |claims| signed(&ours, Algorithm::HS256, claims);
        assert_eq!(ours.verify(ours.token(NOW).as_bytes(), NOW), Ok(()));
        for (iat, fresh) in [(NOW - 60, true), (NOW + 60, true), (NOW - 61, false), (NOW + 61, false), (0, false)] {
            let verdict = ours.verify(hs256(json!({ "iat": iat })).as_bytes(), NOW);
            let expected = if fresh { Ok(()) } else { Err(TokenError::Stale { iat, now: NOW }) };
            assert_eq!(verdict, expected, "{iat}");
        }
        let invalid = [
            theirs.token(NOW),
            signed(&ours, Algorithm::HS512, json!({ "iat": NOW })),
            hs256(json!({})),
            hs256(json!({ "iat": -1 })),
            hs256(json!({ "iat": "now" })),
            hs256(json!({ "iat": NOW, "exp": "soon" })),
            // {"alg":"none"} . {"iat":1700000000} .
            "eyJhbGciOiJub25lIn0.eyJpYXQiOjE3MDAwMDAwMDB9.".into(),
            format!("{}x", ours.token(NOW)),
            String::new(),
            "..".into(),
            "a".repeat(1 << 20),
        ];
        for token in invalid {
            assert_eq!(ours.verify(token.as_bytes(), NOW), Err(TokenError::Invalid), "{token:.100}");
        }
        assert_eq!(
            ours.verify(hs256(json!({ "iat": NOW, "exp": NOW, "sub": "cl", "aud": "x" })).as_bytes(), NOW),
            Ok(())
        );
        let expired = ours.verify(hs256(json!({ "iat": NOW, "exp": NOW - 1 })).as_bytes(), NOW);
        assert_eq!(expired, Err(TokenError::Expired { exp: NOW - 1, now: NOW }));
    }

    #[test]
    fn the_header_is_bearer() {
        let secret = Secret([1; 32]);
        let token = secret.token(NOW);
        for header in [format!("Bearer {token}"), format!("bearer  {token} ")] {
            assert_eq!(secret.verify_header(Some(header.as_bytes()), NOW), Ok(()));
        }
        assert_eq!(secret.verify_header(None, NOW), Err(TokenError::Missing));
        for header in [token.clone(), format!("Basic {token}"), "Bearer".into(), String::new()] {
            assert_eq!(secret.verify_header(Some(header.as_bytes()), NOW), Err(TokenError::Missing));
        }
        assert_eq!(secret.verify_header(Some(b"Bearer \xff\xfe"), NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn a_secret_is_64_hex_digits() {
        let digits = "0123456789abcdef".repeat(4);
        for text in [digits.clone(), format!("0x{digits}\n"), format!("  {} ", digits.to_uppercase())] {
            assert!(Secret::parse(&text).is_ok(), "{text}");
        }
        for text in ["", "0x", &digits[1..], &format!("{digits}00"), &digits.replace('a', "g")] {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_file_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.jwt");
        let made = Secret::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secret::load_or_create(&path).unwrap().0, made.0);
        assert_eq!(Secret::load(&path).unwrap().0, made.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        for wrong in [&b"not a secret"[..], b"\xff\xff", &[b'a'; 1000]] {
            fs::write(&path, wrong).unwrap();
            let error = Secret::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("64 hex digits") && error.contains("engine.jwt"), "{error}");
        }
        let nowhere = folder.path().join("no/engine.jwt");
        assert!(Secret::load_or_create(&nowhere).unwrap_err().to_string().contains("no/engine.jwt"));
    }
}
