//! A server without TLS that answers what it is told to, where the AWS SDK looks for STS and for instance metadata.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers on loopback for as long as the test runs, and remembers what it was asked.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the first line and the body of a request, and gives the body of a 200; None is a 403.
    pub(crate) fn start(answer: impl Fn(&str, &str) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, seen_heads) = (Arc::clone(&requests), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &seen, &seen_heads, &answer);
            }
        });
        Self { url, requests, heads }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// First line and headers of each request.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>, heads: &Mutex<Vec<String>>, answer: &impl Fn(&str, &str) -> Option<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let first = head.lines().next().unwrap().to_owned();
    seen.lock().unwrap().push(format!("{first} {body}"));
    heads.lock().unwrap().push(head);
    let (status, text) = match answer(&first, &body) {
        Some(text) => ("200 OK", text),
        None => (
            "403 Forbidden",
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no \u{202e} way</Message></Error></ErrorResponse>".to_owned(),
        ),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n{text}",
        text.len()
    );
}

pub(crate) const ASSUMED_KEY: &str = "ASIAASSUMEDROLE00001";
pub(crate) const ASSUMED_SECRET: &str = "assumed-role-secret";

pub(crate) fn assumed(expiration: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials><AccessKeyId>{ASSUMED_KEY}</AccessKeyId>\
         <SecretAccessKey>{ASSUMED_SECRET}</SecretAccessKey><SessionToken>assumed/session+token</SessionToken><Expiration>{expiration}</Expiration>\
         </Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}
