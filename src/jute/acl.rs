//! The form of access control lists on the wire.

use super::{DecodeError, Jute, Reader, Writer};
use crate::types::{Acl, AclId, Perms};

impl Jute for Acl {
    fn read(reader: &mut Reader<'_>) -> Result<Acl, DecodeError> {
        Ok(Acl { perms: Perms(reader.read()?), id: reader.read()? })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.perms.0.write(writer);
        self.id.write(writer);
    }
}

/// Its texts are taken as they come, see `lenient`; null is taken for empty.
impl Jute for AclId {
    fn read(reader: &mut Reader<'_>) -> Result<AclId, DecodeError> {
        let mut text = || Ok(lenient(reader.bytes()?.unwrap_or_default()));
        Ok(AclId { scheme: text()?, id: text()? })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.scheme.write(writer);
        self.id.write(writer);
    }
}

/// Returns bytes as a text. Java writes a character beyond U+FFFF as two surrogates of three bytes each;
/// those become the character again, so that a name of a Java client equals the same name from any other.
/// What is still no UTF-8 becomes U+FFFD.
fn lenient(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut utf8 = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        match surrogate_pair(rest) {
            Some(joined) => {
                utf8.extend_from_slice(joined.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[6..];
            }
            None => {
                utf8.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&utf8).into_owned()
}

/// Returns the character that six bytes at the front mean as a pair of surrogates, if they do.
fn surrogate_pair(bytes: &[u8]) -> Option<char> {
    match *bytes.first_chunk::<6>()? {
        [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d @ 0x80..=0xbf] => {
            let [a, b, c, d] = [a & 0x0f, b & 0x3f, c & 0x0f, d & 0x3f].map(u32::from);
            char::from_u32(0x10000 + (a << 16 | b << 10 | c << 6 | d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::lenient;

    #[test]
    fn what_java_writes_of_an_astral_character_is_that_character_again() {
        // U+1F600 in UTF-16 is D83D DE00.
        assert_eq!(lenient(b"a\xed\xa0\xbd\xed\xb8\x80b"), "a\u{1f600}b");
        assert_eq!(lenient("a\u{1f600}b".as_bytes()), "a\u{1f600}b");
        assert_eq!(lenient(b"\xed\xaf\xbf\xed\xbf\xbf"), "\u{10ffff}");
    }

    #[test]
    fn what_is_no_text_at_all_is_kept_as_far_as_it_goes() {
        assert!(lenient(b"x\xff\xed\xa0\xbd").starts_with("x\u{fffd}"));
    }
}
