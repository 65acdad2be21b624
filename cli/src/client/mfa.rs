//! Asking for the code of an MFA device.
//!
//! upstream: `StdinStderrTokenProvider` in pkg/token/token.go.

use std::io::{self, BufRead, Write};

/// Asks on `prompt` (standard error: standard output is the token's) and reads one line from `answer`.
///
/// # Errors
///
/// Those of the two streams, and an end of input before any code.
pub(crate) fn ask(prompt: &mut impl Write, answer: &mut impl BufRead) -> io::Result<String> {
    prompt.write_all(b"Assume Role MFA token code: ")?;
    prompt.flush()?;
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let code = line.trim();
    if code.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no MFA code on standard input"));
    }
    Ok(code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_on_one_stream_and_reads_a_line_from_the_other() {
        let mut prompt = Vec::new();
        assert_eq!(ask(&mut prompt, &mut &b" 123456 \r\n654321\n"[..]).unwrap(), "123456");
        assert_eq!(prompt, b"Assume Role MFA token code: ");
    }

    #[test]
    fn refuses_an_empty_code() {
        assert!(ask(&mut Vec::new(), &mut &b"\n"[..]).is_err());
        assert!(ask(&mut Vec::new(), &mut &b""[..]).is_err());
    }
}
