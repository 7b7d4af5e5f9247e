//! The mails that are sent.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use milter_examples::letter::{addressed, of_file};
use milter_tower::testing::Mail;

use crate::args::Args;
use crate::trouble::Trouble;

/// A mail, and what it is called.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) name: String,
    pub(crate) mail: Mail,
}

/// Reads all of them: a file that is missing is told before anything is sent.
pub(crate) fn load(args: &Args) -> Result<Vec<Letter>, Trouble> {
    let (from, to) = (args.envelope.from.as_deref(), &args.envelope.to[..]);
    if args.files.is_empty() {
        let mail = addressed(Mail::new(), from, to);
        return Ok(vec![Letter {
            name: "a short letter".into(),
            mail: args.send(mail),
        }]);
    }
    let read = |path: &std::path::PathBuf| {
        let eml = content(path).map_err(|error| Trouble::Mail(path.clone(), error))?;
        Ok(Letter {
            name: path.to_string_lossy().into_owned(),
            mail: args.send(of_file(&eml, from, to)),
        })
    };
    args.files.iter().map(read).collect()
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return fs::read(path);
    }
    let mut eml = Vec::new();
    io::stdin().read_to_end(&mut eml)?;
    Ok(eml)
}
