//! A daemon that gives prepared answers over a real Unix socket, and a person with prepared answers.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;

use clap::Parser;
use serde::Serialize;
use tempfile::TempDir;

use crate::cli::Cli;
use crate::dialog::Dialog;
use crate::{Session, run};

/// Answers by `METHOD path?query`; records every request with its body.
pub struct Daemon {
    dir: TempDir,
    answers: Arc<Mutex<HashMap<String, (u16, String)>>>,
    /// Before those: each once, in this order.
    once: Arc<Mutex<VecDeque<Once>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Request, status, answer, and whether the connection breaks before the end of the answer.
type Once = (String, u16, String, bool);

impl Daemon {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let daemon = Self { dir, answers: Arc::default(), once: Arc::default(), requests: Arc::default() };
        let (answers, once) = (Arc::clone(&daemon.answers), Arc::clone(&daemon.once));
        let requests = Arc::clone(&daemon.requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (line, body) = read_request(&mut BufReader::new(&stream));
                let none =
                    (404, r#"{"error":{"code":"not_found","message":"no such thing","hint":"look"}}"#.to_owned());
                let mut queue = once.lock().unwrap();
                let is_next = queue.front().is_some_and(|(request, ..)| *request == line);
                let next = if is_next { queue.pop_front() } else { None };
                drop(queue);
                let (status, answer, breaks) = match next {
                    Some((_, status, answer, breaks)) => (status, answer, breaks),
                    None => {
                        let (status, answer) = answers.lock().unwrap().get(&line).cloned().unwrap_or(none);
                        (status, answer, false)
                    }
                };
                requests.lock().unwrap().push(format!("{line} {body}").trim_end().to_owned());
                let length = answer.len() + usize::from(breaks);
                let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{answer}");
            }
        });
        daemon
    }

    pub fn answer(self, request: &str, value: &impl Serialize) -> Self {
        self.answer_with(request, 200, serde_json::to_string(value).unwrap())
    }

    pub fn answer_with(self, request: &str, status: u16, body: String) -> Self {
        self.answers.lock().unwrap().insert(request.to_owned(), (status, body));
        self
    }

    /// As [`Daemon::answer_with`], once, after those that were prepared like this before.
    pub fn then(self, request: &str, status: u16, body: String, breaks: bool) -> Self {
        self.once.lock().unwrap().push_back((request.to_owned(), status, body, breaks));
        self
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Runs `volctl LINE` with nobody at the terminal.
    pub fn volctl(&self, line: &str) -> Ran {
        self.volctl_with(line, &mut Person { answers: None, asked: Vec::new() })
    }

    pub fn volctl_with(&self, line: &str, person: &mut Person) -> Ran {
        let socket = self.dir.path().join("control.sock");
        let words = ["volctl", "--socket", socket.to_str().unwrap()].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut session = Session::new(&cli.global, &mut out, &mut err, person);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let exit = runtime.block_on(run(cli.command, &mut session));
        Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }
}

fn read_request(reader: &mut impl BufRead) -> (String, String) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let line = format!("{} {}", words.next().unwrap(), words.next().unwrap());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (line, String::from_utf8(body).unwrap())
}

pub struct Ran {
    pub exit: u8,
    pub out: String,
    pub err: String,
}

/// `answers: None` is nobody at the terminal.
pub struct Person {
    pub answers: Option<Vec<&'static str>>,
    pub asked: Vec<String>,
}

impl Person {
    pub fn answering(answer: &'static str) -> Self {
        Self { answers: Some(vec![answer]), asked: Vec::new() }
    }
}

impl Dialog for Person {
    fn is_interactive(&self) -> bool {
        self.answers.is_some()
    }
    fn ask(&mut self, question: &str) -> io::Result<String> {
        self.asked.push(question.to_owned());
        Ok(self.answers.as_mut().and_then(Vec::pop).unwrap_or_default().to_owned())
    }
}
