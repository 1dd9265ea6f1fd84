//! Credentials that callers send as `authorization: Bearer …`.

/// The scheme, which is compared in any case ([RFC 9110, section 11.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.1)).
const SCHEME: &[u8] = b"bearer";

/// The credential in the value of an `authorization` header: what follows the scheme `Bearer` and a space, without spaces
/// around it ([RFC 6750, section 2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)). `None` for another scheme, and for
/// a value that is not UTF-8.
#[must_use]
pub fn bearer(authorization: &[u8]) -> Option<&str> {
    let at = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, credential) = authorization.split_at(at);
    let credential = str::from_utf8(credential).ok()?.trim_ascii();
    scheme.eq_ignore_ascii_case(SCHEME).then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for good in ["Bearer key", "bearer key", "BEARER  key "] {
            assert_eq!(bearer(good.as_bytes()), Some("key"), "{good}");
        }
        assert_eq!(bearer(b"Bearer "), Some(""));
        for bad in ["Bearer", "Bearerkey", "Basic key", " Bearer key", "key", ""] {
            assert_eq!(bearer(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(bearer(b"Bearer \xff"), None);
    }
}
