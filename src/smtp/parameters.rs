//! What stands behind the path of MAIL and RCPT.

use super::reply::Reply;

/// Digits of a SIZE (RFC 1870, 3).
const SIZE_DIGITS_MAX: usize = 20;
/// Octets of an ENVID and of an ORCPT (RFC 3461, 4.2 and 4.4).
const ENVID_BYTES_MAX: usize = 100;
const ORCPT_BYTES_MAX: usize = 500;

/// What is known of a message before it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// Octets that the client announces (RFC 1870); more than 64 bits hold count as the most they hold.
    pub size: Option<u64>,
    /// Whether the client says that there are octets beyond ASCII in it (RFC 6152). They are kept in any case.
    pub eight_bit: bool,
    /// Whether addresses and header fields may be UTF-8 (RFC 6531).
    pub utf8: bool,
    /// How much of the message a bounce is to carry (RFC 3461, 4.3).
    pub ret: Option<Ret>,
    /// What a bounce is to name the message by, as xtext (RFC 3461, 4.4).
    pub envid: Option<String>,
}

/// How much of a message a bounce carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// What the sender wants to hear of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// When it is to be told (RFC 3461, 4.1); `None`: as always, of failures and perhaps of delays.
    pub notify: Option<Notify>,
    /// The recipient as it was first named, `type;xtext` (RFC 3461, 4.2).
    pub orcpt: Option<String>,
}

/// When a sender is to be told what became of a message; all false is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// When it is delivered.
    pub success: bool,
    /// When it cannot be.
    pub failure: bool,
    /// When it takes long.
    pub delay: bool,
}

impl MailParameters {
    /// Whether something was said that only RFC 3461 knows.
    pub fn wants_dsn(&self) -> bool {
        self.ret.is_some() || self.envid.is_some()
    }
}

impl RcptParameters {
    /// Whether anything was said.
    pub fn wants_dsn(&self) -> bool {
        self.notify.is_some() || self.orcpt.is_some()
    }
}

/// The parameters of MAIL.
pub(super) fn mail(text: &str) -> Result<MailParameters, Reply> {
    let mut all = MailParameters::default();
    let mut seen = Vec::new();
    for (keyword, value) in words(text, &mut seen) {
        match (keyword?.as_str(), value) {
            ("SIZE", Some(value)) => all.size = Some(size(value)?),
            ("BODY", Some(value)) => all.eight_bit = body(value)?,
            ("SMTPUTF8", None) => all.utf8 = true,
            ("RET", Some(value)) => all.ret = Some(ret(value)?),
            ("ENVID", Some(value)) => all.envid = Some(envid(value)?),
            // RFC 4954, 5: whom the client says that it has authenticated; nothing here rests on it.
            ("AUTH", Some(value)) if is_xtext(value) => {}
            (known @ ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH"), _) => {
                return Err(bad(&format!("{known} is not written like that")));
            }
            (keyword, _) => return Err(unknown(keyword)),
        }
    }
    Ok(all)
}

/// The parameters of RCPT.
pub(super) fn rcpt(text: &str) -> Result<RcptParameters, Reply> {
    let mut all = RcptParameters::default();
    let mut seen = Vec::new();
    for (keyword, value) in words(text, &mut seen) {
        match (keyword?.as_str(), value) {
            ("NOTIFY", Some(value)) => all.notify = Some(notify(value)?),
            ("ORCPT", Some(value)) => all.orcpt = Some(orcpt(value)?),
            (known @ ("NOTIFY" | "ORCPT"), None) => {
                return Err(bad(&format!("{known} wants a value")));
            }
            (keyword, _) => return Err(unknown(keyword)),
        }
    }
    Ok(all)
}

/// Keywords in upper case with their values. None may come twice.
fn words<'a>(
    text: &'a str,
    seen: &'a mut Vec<String>,
) -> impl Iterator<Item = (Result<String, Reply>, Option<&'a str>)> {
    text.split_ascii_whitespace().map(|word| {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword.to_ascii_uppercase(), Some(value)),
            None => (word.to_ascii_uppercase(), None),
        };
        if seen.contains(&keyword) {
            return (Err(bad("The same parameter twice")), value);
        }
        seen.push(keyword.clone());
        (Ok(keyword), value)
    })
}

fn size(value: &str) -> Result<u64, Reply> {
    let digits =
        (1..=SIZE_DIGITS_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(bad("SIZE wants a number"));
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// RFC 6152, 2. Whether it is 8 bit.
fn body(value: &str) -> Result<bool, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(false),
        "8BITMIME" => Ok(true),
        _ => Err(bad("BODY is 7BIT or 8BITMIME")),
    }
}

/// RFC 3461, 4.3.
fn ret(value: &str) -> Result<Ret, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok(Ret::Full),
        "HDRS" => Ok(Ret::Headers),
        _ => Err(bad("RET is FULL or HDRS")),
    }
}

/// RFC 3461, 4.4.
fn envid(value: &str) -> Result<String, Reply> {
    match value.len() <= ENVID_BYTES_MAX && is_xtext(value) {
        true => Ok(value.to_string()),
        false => Err(bad("ENVID is no xtext of at most 100 octets")),
    }
}

/// RFC 3461, 4.1.
fn notify(value: &str) -> Result<Notify, Reply> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(notify);
    }
    for word in value.split(',') {
        let part = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return Err(bad("NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY")),
        };
        *part = true;
    }
    Ok(notify)
}

/// RFC 3461, 4.2; the type `utf-8` is that of RFC 6533, 3, whose escapes are taken as they are.
fn orcpt(value: &str) -> Result<String, Reply> {
    let wrong = || bad("ORCPT is a type, a semicolon, and an address of at most 500 octets");
    let (kind, address) = value.split_once(';').ok_or_else(wrong)?;
    let is_atom = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let utf8 = kind.eq_ignore_ascii_case("utf-8") && !address.contains(char::is_control);
    let fine = !kind.is_empty() && kind.chars().all(is_atom) && (utf8 || is_xtext(address));
    match fine && !address.is_empty() && value.len() <= ORCPT_BYTES_MAX {
        true => Ok(value.to_string()),
        false => Err(wrong()),
    }
}

/// RFC 3461, 4: printable ASCII without `+` and `=`, which are `+` and two hexadecimal digits in upper case.
fn is_xtext(text: &str) -> bool {
    let hex = |b: &u8| b.is_ascii_digit() || (b'A'..=b'F').contains(b);
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'+', [a, b, after @ ..]) if hex(a) && hex(b) => after,
            (b'+' | b'=', _) => return false,
            (b'!'..=b'~', _) => after,
            _ => return false,
        };
    }
    true
}

fn bad(why: &str) -> Reply {
    Reply::new(501, "5.5.4", why)
}

/// RFC 5321, 4.1.1.11: also the answer to one that another service of ours knows.
pub(super) fn unknown(keyword: &str) -> Reply {
    let keyword: String = keyword.chars().filter(char::is_ascii_graphic).take(40).collect();
    Reply::new(555, "5.5.4", format!("Unknown parameter {keyword}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_more_than_64_bits_does_not_overflow() {
        let size = |n: &str| mail(&format!("SIZE={n}")).map(|all| all.size);
        assert_eq!(size("18446744073709551616"), Ok(Some(u64::MAX)));
        assert_eq!(size("12"), Ok(Some(12)));
        for junk in ["", "-1", "1x", "999999999999999999999"] {
            assert_eq!(size(junk).unwrap_err().code, 501, "{junk}");
        }
    }

    #[test]
    fn what_rfc_3461_knows_is_read() {
        let all = mail("RET=hdrs ENVID=QQ+2B314 BODY=8bitmime SMTPUTF8").unwrap();
        assert_eq!((all.ret, all.envid.as_deref()), (Some(Ret::Headers), Some("QQ+2B314")));
        assert!(all.eight_bit && all.utf8);
        let all = rcpt("NOTIFY=SUCCESS,delay ORCPT=rfc822;Bob+2B@x.org").unwrap();
        let notify = Notify { success: true, failure: false, delay: true };
        assert_eq!((all.notify, all.orcpt.as_deref()), (Some(notify), Some("rfc822;Bob+2B@x.org")));
        assert_eq!(rcpt("NOTIFY=NEVER").unwrap().notify, Some(Notify::default()));
        for junk in
            ["NOTIFY=", "NOTIFY=NEVER,SUCCESS", "NOTIFY", "ORCPT=x", "ORCPT=rfc822;+2b", "ORCPT=;x"]
        {
            assert_eq!(rcpt(junk).unwrap_err().code, 501, "{junk}");
        }
        for junk in
            ["RET=ALL", "RET", "ENVID=+", "ENVID=a+zz", "SMTPUTF8=1", "BODY", "RET=FULL RET=FULL"]
        {
            assert_eq!(mail(junk).unwrap_err().code, 501, "{junk}");
        }
        assert_eq!(mail(&format!("ENVID={}", "x".repeat(101))).unwrap_err().code, 501);
        assert_eq!(mail("X=1").unwrap_err().code, 555);
        assert_eq!(rcpt("RET=FULL").unwrap_err().code, 555);
    }
}
