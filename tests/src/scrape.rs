//! Scraping the daemon from scratch, as Prometheus does, and Prometheus itself: what a test reads shares no code with the product.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// The body of an answer with status 200.
///
/// # Errors
/// Nobody answers, or not with 200.
pub fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(body.to_owned())
}

/// The value of a sample, named as it is written.
pub fn sample(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The sum of a family's samples.
pub fn sum(page: &str, family: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(family).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    page.lines().filter_map(value).sum()
}

/// A Prometheus of a test's own; it ends with this.
pub struct Prometheus {
    process: Child,
    address: &'static str,
}

impl Prometheus {
    /// Scrapes `target` as job `volumed` each second, with these rules. Its data are in `dir`.
    pub fn start(dir: &Path, target: &str, rules: &str) -> Prometheus {
        let address = "127.0.0.1:19090";
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [volumed.rules.yml]\n\
             scrape_configs:\n  - job_name: volumed\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"
        );
        std::fs::write(dir.join("volumed.rules.yml"), rules).unwrap();
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        let log = std::fs::File::create(dir.join("prometheus.log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--storage.tsdb.retention.time=1h", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Prometheus { process, address };
        let begin = Instant::now();
        while get(address, "/-/ready").is_err() {
            assert!(begin.elapsed() < PATIENCE, "{}", std::fs::read_to_string(dir.join("prometheus.log")).unwrap());
            sleep(Duration::from_millis(100));
        }
        prometheus
    }

    fn ask(&self, path: &str) -> Value {
        let body = get(self.address, path).unwrap_or_else(|err| panic!("prometheus: {path}: {err}"));
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// Names of the alerts that fire now.
    pub fn firing(&self) -> Vec<String> {
        let alerts = self.ask("/api/v1/alerts");
        let all = alerts["alerts"].as_array().unwrap().iter().filter(|one| one["state"] == "firing");
        let mut names: Vec<_> = all.map(|one| one["labels"]["alertname"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// What it knows of its one target.
    pub fn target(&self) -> Value {
        self.ask("/api/v1/targets")["activeTargets"][0].clone()
    }

    /// The answer to a question over a stretch of time, a value for each second.
    pub fn range(&self, question: &str, (from, to): (u64, u64)) -> Value {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let question: String = question.bytes().map(encode).collect();
        self.ask(&format!("/api/v1/query_range?query={question}&start={from}&end={to}&step=1"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn samples_are_found_by_their_whole_name() {
        let page = "# TYPE a gauge\na{x=\"1\"} 2\na{x=\"2\"} 3\nab 7\n";
        assert_eq!((super::sample(page, "ab"), super::sample(page, "a{x=\"2\"}")), (Some(7.0), Some(3.0)));
        assert_eq!((super::sample(page, "a"), super::sum(page, "a"), super::sum(page, "ab")), (None, 5.0, 7.0));
    }
}
