//! What container engines ask of their volume plugin.

use std::collections::BTreeSet;

use vol_docker::{Call, EngineName, Options, Request, Settings};

/// The first byte chooses the endpoint, what follows is the body.
///
/// Claims: no panic; a name that is accepted is kept as it is, no path leads through it, and there are names for a volume of it, all
/// different; options that are accepted are recorded in full or not at all, and read from the record they mean the same.
pub fn engine_request(data: &[u8]) -> bool {
    let Some((choice, body)) = data.split_first() else { return false };
    let call = Call::ALL[usize::from(*choice) % Call::ALL.len()];
    let Ok(request) = Request::read(call, body) else { return false };
    if let Some(name) = request.name() {
        assert_eq!(EngineName::new(name.as_str()).as_ref(), Ok(name));
        let text = name.as_str();
        assert!(!text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0', '\n']), "{text:?}");
        let candidates = name.candidates();
        assert!(!candidates.is_empty());
        assert_eq!(candidates.iter().collect::<BTreeSet<_>>().len(), candidates.len(), "{candidates:?}");
    }
    let Request::Create(_, given) = request else { return true };
    let settings = Settings::default();
    let Ok(options) = Options::read(&given, &settings) else { return false };
    if let Some(recorded) = Options::recorded(&options.record) {
        assert_eq!(Options::read(&recorded, &settings), Ok(options));
    }
    true
}
