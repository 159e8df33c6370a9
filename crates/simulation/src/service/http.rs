//! A server's HTTP/1.1, written here so that its answers can also be wrong.

use std::collections::BTreeMap;

use crate::net::ConnId;
use crate::time::Us;

/// One complete request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) conn: ConnId,
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        let value = self.header("authorization")?;
        value.get(..7).filter(|word| word.eq_ignore_ascii_case("bearer ")).and_then(|_| value.get(7..))
    }

    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The fields of a form in the body.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        pairs(&String::from_utf8_lossy(&self.body), true)
    }
}

/// Percent-decoding; `plus` where a plus stands for a space.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match bytes[i] {
            b'%' => {
                if let (Some(high), Some(low)) = (hex(i + 1), hex(i + 2)) {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    i += 3;
                    continue;
                }
                out.push(b'%');
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn pairs(text: &str, plus: bool) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key, plus), decode(value, plus))
        })
        .collect()
}

/// Reads one request from the front of `buffer`; `Err` for invalid HTTP.
pub(crate) fn parse(conn: ConnId, buffer: &mut Vec<u8>) -> Result<Option<Request>, &'static str> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if buffer.len() > 64 * 1024 { Err("the head is too large") } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
        return Err("the first line is no request");
    };
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    if headers.contains_key("transfer-encoding") {
        return Err("requests are not read in chunks");
    }
    let length: usize = match headers.get("content-length") {
        Some(text) => text.parse().map_err(|_| "a bad length")?,
        None => 0,
    };
    let whole = end + 4 + length;
    if buffer.len() < whole {
        return Ok(None);
    }
    let body = buffer[end + 4..whole].to_vec();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request =
        Request { conn, method: method.to_owned(), path: path.to_owned(), query: pairs(query, false), headers, body };
    buffer.drain(..whole);
    Ok(Some(request))
}

/// An answer before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Microseconds beyond the usual work.
    pub(crate) delay: Us,
}

impl Answer {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), delay: 0 }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::empty(status)
            .header("Content-Type", "application/json;charset=utf-8")
            .body(serde_json::to_vec(body).unwrap_or_default())
    }

    /// RingCentral's error envelope with its doubled head (rest §4.3).
    pub(crate) fn error(status: u16, code: &str, message: &str, parameter: Option<&str>) -> Self {
        let mut one = serde_json::json!({"errorCode": code, "message": message});
        if let (Some(parameter), Some(map)) = (parameter, one.as_object_mut()) {
            map.insert("parameterName".into(), parameter.into());
        }
        Self::json(status, &serde_json::json!({"errorCode": code, "message": message, "errors": [one]}))
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// The bytes of the answer: the head, and the body as it goes over the wire.
    pub(crate) fn write(&self, chunked: bool, close: bool, lie: usize) -> (Vec<u8>, Vec<u8>) {
        use std::fmt::Write as _;
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        let has_body = !matches!(self.status, 204 | 304 | 101);
        let chunked = chunked && has_body && lie == 0;
        let mut body = Vec::with_capacity(self.body.len() + 32);
        if chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
            for part in self.body.chunks(1000) {
                body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                body.extend_from_slice(part);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
        } else if has_body {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len() + lie);
            body.extend_from_slice(&self.body);
        }
        head.push_str("\r\n");
        (head.into_bytes(), body)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, decode, parse};

    #[test]
    fn requests_are_read_in_parts() {
        let text = b"POST /a/b%20c?x=1&y=a%2Bb HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nAuthorization: Bearer t\r\n\r\nxyzGET";
        for cut in [10, 50, text.len() - 4] {
            let mut buffer = text[..cut].to_vec();
            assert!(matches!(parse(1, &mut buffer), Ok(None)), "{cut}");
            buffer.extend_from_slice(&text[cut..]);
            let Ok(Some(request)) = parse(1, &mut buffer) else { panic!("it is whole") };
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/a/b%20c"));
            assert_eq!((request.query("y"), request.bearer()), (Some("a+b"), Some("t")));
            assert_eq!((request.body.as_slice(), buffer.as_slice()), (&b"xyz"[..], &b"GET"[..]));
        }
        assert!(parse(1, &mut b"nonsense\r\n\r\n".to_vec()).is_err());
        assert_eq!(decode("a%2", false), "a%2");
    }

    #[test]
    fn answers_have_a_length_or_chunks() {
        let answer = Answer::empty(200).body(b"hello".to_vec());
        let (head, body) = answer.write(false, true, 0);
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.contains("Content-Length: 5\r\n") && head.contains("Connection: close"), "{head}");
        assert_eq!(body, b"hello");
        assert_eq!(answer.write(true, false, 0).1, b"5\r\nhello\r\n0\r\n\r\n");
        let (head, _) = Answer::empty(204).write(true, false, 0);
        assert!(!String::from_utf8_lossy(&head).contains("Length"));
    }
}
