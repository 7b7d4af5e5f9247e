//! What the tests of this project stand on: real mail servers on loopback, the programs that are
//! tested as child processes, an SMTP client that is told every line and a sink that keeps every
//! message. Nothing of that uses the milter crates, so that what is tested is not its own witness.
//! [`fuzz`] stands apart: the bodies of the fuzz targets.
//!
//! Every wait has a bound and polls a real condition; nothing sleeps and hopes.
//!
//! | module | |
//! | --- | --- |
//! | [`rig`] | a mail server with `control` filters before it: the usual entrance |
//! | [`mta`] | a private Postfix or Sendmail, and whether this machine has one |
//! | [`control`] | the two files of the program `control` |
//! | [`smtp`], [`mail`] | the client and what it sends |
//! | [`sink`] | where the mail servers deliver everything |
//! | [`sasl`] | who may log in, for Postfix |
//! | [`raw`] | a milter client that sends whatever bytes it is told to |
//! | [`scripted`] | a filter that sends whatever bytes it is told to |
//! | [`sum`] | what a filter must have seen of a message, in one number |
//! | [`others`], [`debian`] | milters that no one here wrote, and programs that are unpacked, not installed |
//! | [`session`] | what Postfix sends to a filter, for the benchmarks |
//! | [`process`], [`usage`] | child processes, and what they take of memory and descriptors |
//! | [`address`], [`wait`] | where things listen, bounded waits |
//! | [`fuzz`] | what the fuzz targets do |

pub mod address;
pub mod control;
pub mod debian;
pub mod fuzz;
pub mod mail;
pub mod mta;
pub mod others;
pub mod process;
pub mod raw;
pub mod rig;
pub mod sasl;
pub mod scripted;
pub mod session;
pub mod sink;
pub mod smtp;
pub mod sum;
pub mod usage;
pub mod wait;
