//! Plain or gzipped bytes become text, under a limit.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::error::SpecError;

/// First bytes of a gzip stream; JSON never begins so.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The plain bytes of a spec that may be gzipped, at most `bytes_max` of them.
pub(crate) fn unpack(bytes: &[u8], bytes_max: u64) -> Result<Cow<'_, [u8]>, SpecError> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return if bytes.len() as u64 > bytes_max { Err(SpecError::too_large(false)) } else { Ok(bytes.into()) };
    }
    let mut plain = Vec::new();
    // One byte above the limit tells "too large" from "just fits".
    let read = MultiGzDecoder::new(bytes).take(bytes_max + 1).read_to_end(&mut plain).map_err(SpecError::Gzip)?;
    if read as u64 > bytes_max { Err(SpecError::too_large(true)) } else { Ok(plain.into()) }
}
