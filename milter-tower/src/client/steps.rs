//! What an MTA tells a milter, step by step.

use bytes::{Bytes, BytesMut};
use milter_core::client::{Answer, Awaited};
use milter_core::macros::names;
use milter_core::{
    Command, Connect, Header, Helo, Modification, Recipient, Sender, SmtpReply, Stage,
    UnknownCommand, Verdict,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{ClientError, ClientErrorKind, Connection, MacroScope};

/// The steps of an SMTP session.
impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// A client connects.
    ///
    /// # Errors
    ///
    /// The call comes out of order, or the milter fails or has failed.
    pub async fn connect(&mut self, client: Connect) -> Result<Answer, ClientError> {
        self.ask(Stage::Connect, Command::Connect(client)).await
    }

    /// The client says HELO or EHLO; again, too, or within a message before it is aborted.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn helo(&mut self, name: impl Into<Bytes>) -> Result<Answer, ClientError> {
        self.ask(Stage::Helo, Command::Helo(Helo::new(name))).await
    }

    /// A command that the MTA does not know: the whole line, without its end.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn unknown(&mut self, line: impl Into<Bytes>) -> Result<Answer, ClientError> {
        let command = UnknownCommand::new(line);
        self.ask(Stage::Unknown, Command::Unknown(command)).await
    }

    /// A message begins.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn mail(&mut self, sender: Sender) -> Result<Answer, ClientError> {
        self.ask(Stage::Mail, Command::Mail(sender)).await
    }

    /// A recipient. One that is refused is left out, and the message goes on.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn rcpt(&mut self, recipient: Recipient) -> Result<Answer, ClientError> {
        self.ask(Stage::Rcpt, Command::Rcpt(recipient)).await
    }

    /// A recipient that the MTA itself refuses, with this reply. The milter hears of it only if it
    /// asked for that; whatever it answers, the recipient stays refused.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    // sendmail/srvrsmtp.c; Postfix smtpd.c rcpt_cmd, smtpd_milter.c: {rcpt_mailer} is `error`, the
    // others are the reply
    pub async fn rejected_rcpt(
        &mut self,
        recipient: Recipient,
        reply: &SmtpReply,
    ) -> Result<Answer, ClientError> {
        if !self.agreement().rejected_recipients() {
            self.values.end(MacroScope::Step);
            return Ok(Answer::new(Stage::Rcpt, Verdict::Continue));
        }
        self.set_macro_in(MacroScope::Step, names::RCPT_MAILER, "error");
        if let Some(code) = reply.enhanced_code() {
            self.set_macro_in(MacroScope::Step, names::RCPT_HOST, code.to_string());
        }
        if let Some(line) = reply.lines().next() {
            let line = Bytes::copy_from_slice(line.as_ref());
            self.set_macro_in(MacroScope::Step, names::RCPT_ADDR, line);
        }
        let answer = self.rcpt(recipient).await;
        // Where it could not be said, the next recipient is not to be taken for a refused one.
        self.values.end(MacroScope::Step);
        answer
    }

    /// DATA.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn data(&mut self) -> Result<Answer, ClientError> {
        self.ask(Stage::Data, Command::Data).await
    }

    /// A header, its value everything behind the colon, also the space that it usually begins with.
    /// Lines are separated by LF. The space is left out unless the milter negotiated to see it.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn header(&mut self, header: Header) -> Result<Answer, ClientError> {
        let header = self.shown(header);
        self.ask(Stage::Header, Command::Header(header)).await
    }

    /// The end of the headers.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn end_of_headers(&mut self) -> Result<Answer, ClientError> {
        self.ask(Stage::EndOfHeaders, Command::EndOfHeaders).await
    }

    /// The body or a part of it, of any length, as it is: lines are to end in CRLF.
    ///
    /// It is cut into pieces that may be sent; no more of them go out once the milter skips the
    /// rest or decides. The answer is that to the last one.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    // sendmail/milter.c milter_body, Postfix milter8.c milter8_body: MILTER_CHUNK_SIZE
    pub async fn body(&mut self, body: impl Into<Bytes>) -> Result<Answer, ClientError> {
        let mut last = Answer::new(Stage::Body, Verdict::Continue);
        for piece in Modification::body_chunks(&body.into()) {
            last = self.ask(Stage::Body, Command::Body(piece)).await?;
            if last.verdict != Verdict::Continue {
                break;
            }
        }
        Ok(last)
    }

    /// The same for a body that is read bit by bit, as it is. No more is read than is sent.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect); or the body cannot be read.
    pub async fn body_from(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<Answer, ClientError> {
        if self.decided().is_some() || !self.agreement().delivers(Stage::Body) {
            // Nothing is to be sent.
            let nothing = Command::Body(Bytes::new());
            return self.ask(Stage::Body, nothing).await;
        }
        // Also where there is nothing to read.
        self.check(Some(Stage::Body))?;
        let mut last = Answer::new(Stage::Body, Verdict::Continue);
        while last.verdict == Verdict::Continue {
            let mut piece = BytesMut::with_capacity(Modification::MAX_BODY_CHUNK);
            while piece.len() < Modification::MAX_BODY_CHUNK {
                let left = Modification::MAX_BODY_CHUNK - piece.len();
                let mut limited = (&mut reader).take(left as u64);
                match limited.read_buf(&mut piece).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        let kind = ClientErrorKind::Body(error);
                        return Err(self.error(Some(Stage::Body), kind));
                    }
                }
            }
            if piece.is_empty() {
                break;
            }
            last = self.ask(Stage::Body, Command::Body(piece.freeze())).await?;
        }
        Ok(last)
    }

    /// The end of the message: the milter's verdict, and its edits in the order in which they came.
    /// They are within what was negotiated.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn end(&mut self) -> Result<Answer, ClientError> {
        self.ask(Stage::EndOfMessage, Command::EndOfMessage(Bytes::new()))
            .await
    }

    /// The message is given up, or was refused. The milter is told if it has to be.
    ///
    /// Also when no message is open.
    ///
    /// # Errors
    ///
    /// A reply is due, or the milter fails or has failed.
    pub async fn abort(&mut self) -> Result<(), ClientError> {
        if self.link.session().owes_abort() {
            self.check(None)?;
        }
        self.link
            .abort()
            .map_err(|error| self.send_error(None, error))?;
        self.end_message();
        self.write(None).await
    }

    /// The SMTP session ends, and with it the connection.
    ///
    /// # Errors
    ///
    /// The goodbye cannot be written: the milter has failed, or is gone.
    pub async fn quit(mut self) -> Result<(), ClientError> {
        self.link
            .quit()
            .map_err(|error| self.send_error(None, error))?;
        self.write(None).await
    }

    /// The SMTP session ends, and another one may begin on this connection:
    /// [`connect`](Self::connect) comes next.
    ///
    /// Neither Postfix nor Sendmail sends this, and not all milters understand it.
    ///
    /// # Errors
    ///
    /// A reply is due, or the milter fails or has failed.
    // include/libmilter/mfdef.h SMFIC_QUIT_NC
    pub async fn quit_new_connection(&mut self) -> Result<(), ClientError> {
        self.check(None)?;
        self.link
            .quit_new_connection()
            .map_err(|error| self.send_error(None, error))?;
        self.end_session();
        self.write(None).await
    }

    /// Fetches the answer that is due, if the future of a step was dropped before it had that.
    ///
    /// # Errors
    ///
    /// The milter fails or has failed.
    pub async fn answer(&mut self) -> Result<Option<Answer>, ClientError> {
        let stage = match self.link.session().awaited() {
            Some(Awaited::Verdict(stage)) => Some(stage),
            _ => None,
        };
        self.hear(stage).await
    }
}
