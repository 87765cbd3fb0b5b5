use crate::limits::SSE_MESSAGE_BYTES_MAX;

/// One message of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseMessage {
    /// The last id seen, of this or an earlier message.
    pub id: Option<String>,
    /// The event's name, `message` when the stream gives none.
    pub event: String,
    /// The data, lines joined by `\n`.
    pub data: String,
}

/// Says that a message is larger than [`SSE_MESSAGE_BYTES_MAX`]; the stream is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseOverflow;

/// Turns the chunks of a `text/event-stream` body into messages, wherever the chunks are cut. Lines end in
/// LF, CR or CRLF; comments and unknown fields are skipped; a message without data is none. Source: WHATWG
/// HTML, 9.2.6.
#[derive(Debug, Default)]
pub struct SseParser {
    /// Bytes of the unfinished line.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    id: Option<String>,
    event: String,
    data: String,
    /// `data` had a line, be it empty.
    has_data: bool,
}

impl SseParser {
    /// Takes the next chunk and returns the messages that it completes, in order. Cost: O(chunk).
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<Vec<SseMessage>, SseOverflow> {
        let mut messages = Vec::new();
        while let Some(&first) = chunk.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let Some(end) = chunk.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                self.line.extend_from_slice(chunk);
                self.check_size()?;
                break;
            };
            self.line.extend_from_slice(&chunk[..end]);
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            messages.extend(self.end_line());
            self.check_size()?;
        }
        Ok(messages)
    }

    fn check_size(&self) -> Result<(), SseOverflow> {
        if self.line.len() + self.data.len() > SSE_MESSAGE_BYTES_MAX {
            Err(SseOverflow)
        } else {
            Ok(())
        }
    }

    fn end_line(&mut self) -> Option<SseMessage> {
        let bytes = std::mem::take(&mut self.line);
        if bytes.is_empty() {
            return self.end_message();
        }
        let line = String::from_utf8_lossy(&bytes);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "event" => self.event = value.to_owned(),
            "id" => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }

    fn end_message(&mut self) -> Option<SseMessage> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let named = !event.is_empty();
        // The standard drops a message without data; `progress` may come without, and says enough by its id.
        if !std::mem::take(&mut self.has_data) && !named {
            return None;
        }
        let event = if named { event } else { "message".to_owned() };
        Some(SseMessage { id: self.id.clone(), event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::{SseMessage, SseOverflow, SseParser};
    use crate::limits::SSE_MESSAGE_BYTES_MAX;

    const STREAM: &str = ": hello\nretry: 1000\n\nid: 41\nevent: snapshot\ndata: {\"a\":\ndata:1}\n\n\
                          id: 42\nevent: progress\n\n: ping\n\ndata\n\nevent:change\ndata:  é\n\n";

    fn expected() -> Vec<SseMessage> {
        let message = |id: &str, event: &str, data: &str| SseMessage {
            id: Some(id.to_owned()),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        vec![
            message("41", "snapshot", "{\"a\":\n1}"),
            message("42", "progress", ""),
            message("42", "message", ""),
            message("42", "change", " é"),
        ]
    }

    #[test]
    fn messages_are_the_same_wherever_the_stream_is_cut_and_however_lines_end() {
        for ending in ["\n", "\r\n", "\r"] {
            let stream = STREAM.replace('\n', ending);
            for size in 1..=stream.len() {
                let mut parser = SseParser::default();
                let messages: Vec<_> = stream
                    .as_bytes()
                    .chunks(size)
                    .flat_map(|chunk| parser.push(chunk).unwrap())
                    .collect();
                assert_eq!(messages, expected(), "ending {ending:?}, chunks of {size}");
            }
        }
    }

    #[test]
    fn an_unfinished_message_is_not_told() {
        let mut parser = SseParser::default();
        assert_eq!(parser.push(b"id: 1\ndata: x\n"), Ok(vec![]));
        assert_eq!(parser.push(b"\n").unwrap().len(), 1);
    }

    #[test]
    fn a_message_beyond_the_bound_is_an_overflow() {
        let mut parser = SseParser::default();
        let chunk = vec![b'x'; SSE_MESSAGE_BYTES_MAX];
        assert_eq!(parser.push(&chunk), Ok(vec![]));
        assert_eq!(parser.push(b"xx"), Err(SseOverflow));
    }
}
