//! A client with no manners of its own: plain sockets, so that a test says every byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any answer takes, so that a server that hangs fails a test instead of stopping it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the listener is there");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Posts `body` as JSON, with more headers. A server that refuses early may close before it has read all, so that only
/// the answer counts.
pub fn post(addr: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let length = body.len().to_string();
    let mut all = vec![("content-type", "application/json"), ("content-length", length.as_str())];
    all.extend(headers);
    request(addr, "POST", &all, body)
}

pub fn request(addr: SocketAddr, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = connect(addr);
    let head = head(addr, method, headers, "connection: close\r\n");
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let reply = parse(&bytes);
    reply.unwrap_or_else(|| panic!("no answer: sent {sent:?}, read {read:?}, {} bytes", bytes.len()))
}

fn head(addr: SocketAddr, method: &str, headers: &[(&str, &str)], more: &str) -> String {
    let mut head = format!("{method} / HTTP/1.1\r\n{more}");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {addr}\r\n");
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head + "\r\n"
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head: head.to_ascii_lowercase(), body: body.into() })
}

/// A WebSocket that sends and reads when told to.
pub struct Ws(pub TcpStream);

impl Ws {
    /// Upgrades, or says with what status it was refused.
    pub fn open(addr: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut stream = connect(addr);
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        stream.write_all(head(addr, "GET", headers, upgrade).as_bytes()).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer to the upgrade");
            bytes.push(byte[0]);
        }
        match parse(&bytes).expect("an HTTP head").status {
            101 => Ok(Self(stream)),
            status => Err(status),
        }
    }

    pub fn send(&mut self, text: &str) -> io::Result<()> {
        // FIN and text; masked, as a client has to, with zeros, which change nothing.
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame)
    }

    /// The next message; pings are skipped.
    pub fn receive(&mut self) -> io::Result<Value> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head)?;
            let length = match head[1] {
                126 => self.bytes::<2>().map(|bytes| u64::from(u16::from_be_bytes(bytes)))?,
                127 => self.bytes::<8>().map(u64::from_be_bytes)?,
                length => length.into(),
            };
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload)?;
            match head[0] & 0x0f {
                0 | 1 => message.extend(payload),
                8 => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => continue,
            }
            if head[0] & 0x80 != 0 {
                return serde_json::from_slice(&message).map_err(io::Error::other);
            }
        }
    }

    pub fn ask(&mut self, message: &str) -> Value {
        self.send(message).expect("the server reads");
        self.receive().expect("the server answers")
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// A call as JSON.
pub fn call(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params })
}

/// Makes one call in all four ways and answers what came, after its way.
pub fn four_ways(addr: SocketAddr, headers: &[(&str, &str)], call: &Value) -> Vec<(&'static str, Value)> {
    let other = json!({ "jsonrpc": "2.0", "id": 8, "method": "no_such_method" });
    let batch = json!([other, call]).to_string();
    let of_batch = |answer: Value| {
        let list = answer.as_array().unwrap_or_else(|| panic!("a batch is answered by a list: {answer}"));
        list.iter().find(|answer| answer["id"] == 7).expect("the call's answer").clone()
    };
    let mut ws = Ws::open(addr, headers).expect("an upgrade");
    vec![
        ("http", post(addr, headers, call.to_string().as_bytes()).json()),
        ("http batch", of_batch(post(addr, headers, batch.as_bytes()).json())),
        ("ws", ws.ask(&call.to_string())),
        ("ws batch", of_batch(ws.ask(&batch))),
    ]
}

/// Calls over HTTP and gives the result.
pub fn result(addr: SocketAddr, method: &str, params: Value) -> Value {
    let answer = post(addr, &[], call(method, params).to_string().as_bytes()).json();
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

/// Calls in all four ways, asserts the same error each time, and gives it.
pub fn error(addr: SocketAddr, headers: &[(&str, &str)], method: &str, params: Value) -> Value {
    let answers = four_ways(addr, headers, &call(method, params));
    let first = answers[0].1["error"].clone();
    assert!(first.is_object(), "{method}: {}", answers[0].1);
    for (way, answer) in &answers {
        assert_eq!(answer["error"], first, "{method} by {way}");
    }
    first
}
