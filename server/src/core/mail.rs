//! What comes from other cores, and questions to all of them.

use super::{Core, Stream};
use crate::io::Io;
use crate::mailbox::{Mail, Ticket};
use crate::multi::exclusive::{Under, UnderDone};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A question that every core answers for itself, on its own thread.
pub type Question = Arc<dyn Fn(&mut Core) -> Vec<u8> + Send + Sync>;

/// Makes a reply of the answers, in the cores' order.
pub type Conclude = Box<dyn FnOnce(&mut Core, Ticket, Vec<Vec<u8>>)>;

/// Control messages between cores.
pub enum Control {
    /// Serve this connection.
    Adopt {
        stream: Stream,
        peer: String,
        local: String,
    },
    Ask {
        from: usize,
        question: u32,
        ask: Question,
    },
    Answer {
        from: usize,
        question: u32,
        answer: Vec<u8>,
    },
    /// A script that holds this core, or has borrowed keys of it, has become slow.
    Slow,
    /// Take a turn: another core needs memory that this one has.
    MakeRoom,
    /// The core's log is on disk as far as it went when this sync began.
    Synced(crate::aof::commit::Synced),
    /// What the core had done by a thread is done.
    Errand(crate::aof::errand::After),
    /// A long command is done.
    Aside(Box<crate::aside::Done>),
    /// From a debugging session.
    Debug(Box<crate::scripts::debug::Message>),
    /// End the loop.
    Stop,
}

/// A question under way.
pub(super) struct Asked {
    ticket: Ticket,
    answers: Vec<Option<Vec<u8>>>,
    left: usize,
    conclude: Conclude,
}

impl Core {
    pub(super) fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.early);
        self.mailbox.receive(|from, m| mail.push((from, m)));
        // They run later. First: other mail may run a script, which looks at what waits.
        mail.retain_mut(|(from, m)| match m {
            Mail::Commands(parcel) => {
                self.parcels.push_back((*from, std::mem::take(parcel)));
                false
            }
            _ => true,
        });
        for (from, m) in mail {
            match m {
                Mail::Commands(_) => panic!("taken out above"),
                Mail::Replies(parcel) => {
                    self.log.answered.by_other = self.commits_aside();
                    self.take_replies(parcel);
                    self.log.answered.by_other = false;
                }
                Mail::Late(ticket, reply) => {
                    self.log.answered.by_other = self.commits_aside();
                    self.answer_with(ticket, &reply);
                    self.log.answered.by_other = false;
                }
                Mail::SharesDone {
                    transaction,
                    number,
                    parcel,
                } => self.shares_done(from, transaction, number, parcel),
                Mail::PartDone {
                    transaction,
                    number,
                    reply,
                } => self.part_done(from, transaction, number, reply),
                Mail::Lent {
                    transaction,
                    number,
                    loan,
                    order,
                } => self.lent(from, transaction, number, loan, order),
                Mail::GiveBack {
                    order,
                    loan,
                    waiter,
                } => self.given_back(order, loan, waiter),
                Mail::Forget(waiter) => self.dequeue(&waiter),
                Mail::Published(number) => self.published(number),
                Mail::InVain(waiter) => self.serve_behind(&waiter),
                Mail::Again(script) => self.take_script_again(*script),
                Mail::Watch(watcher, ticket) => self.watches.push((watcher, ticket)),
                Mail::Tracking(message) => self.take_tracking(message),
                Mail::Monitor(line) => self.take_monitor_line(&line),
                Mail::Record(caller, record) => self.take_record(caller, *record),
                Mail::Unwatch(watcher) => self.unwatch_here(&watcher),
                Mail::Log(part) => self.shard.log.append_group(&part),
                Mail::LogMark(whole) => self.shard.log.mark_group(whole),
                Mail::Under {
                    transaction,
                    now_ms,
                    under,
                } => self.under(from, transaction, now_ms, under),
                Mail::UnderDone {
                    transaction,
                    done,
                    records,
                } => self.under_done(from, transaction, done, records),
            }
        }
    }

    pub(crate) fn control(&mut self, message: Control) {
        match message {
            Control::Adopt {
                stream,
                peer,
                local,
            } => self.adopt(stream, peer, local, false),
            Control::Ask {
                from,
                question,
                ask,
            } => {
                self.answer_question(from, question, &ask);
            }
            Control::Answer {
                from,
                question,
                answer,
            } => self.answered(from, question, answer),
            Control::Slow => self.refuse_waiting(),
            // Done in every turn.
            Control::MakeRoom => {}
            Control::Synced(synced) => self.synced(synced),
            Control::Errand(after) => after(self),
            Control::Aside(done) => self.end_aside(*done),
            Control::Debug(message) => self.debug_message(*message),
            Control::Stop => self.stopping = true,
        }
    }

    /// Has every core answer a question, this one included, and concludes when all have.
    pub fn ask_all(&mut self, ticket: Ticket, ask: Question, conclude: Conclude) {
        let question = self.next_question;
        self.next_question = self.next_question.wrapping_add(1);
        let cores = self.cores();
        let asked = Asked {
            ticket,
            answers: (0..cores).map(|_| None).collect(),
            left: cores,
            conclude,
        };
        self.questions.insert(question, asked);
        for core in (0..cores).filter(|&c| c != self.id) {
            let ask = ask.clone();
            self.mailbox.send_control(
                core,
                Control::Ask {
                    from: self.id,
                    question,
                    ask,
                },
            );
        }
        // By mail also here: the conclusion may not come while the asking command is still in the client's hands.
        self.answer_question(self.id, question, &ask);
    }
    fn answer_question(&mut self, asker: usize, question: u32, ask: &Question) {
        let message = Control::Answer {
            from: self.id,
            question,
            answer: ask(self),
        };
        self.mailbox.send_control(asker, message);
    }

    pub(super) fn answered(&mut self, from: usize, question: u32, answer: Vec<u8>) {
        let asked = self
            .questions
            .get_mut(&question)
            .expect("an answer to a question under way");
        asked.answers[from] = Some(answer);
        asked.left -= 1;
        if asked.left == 0 {
            let asked = self.questions.remove(&question).expect("looked at above");
            let answers = asked.answers.into_iter().flatten().collect();
            (asked.conclude)(self, asked.ticket, answers);
        }
    }

    /// Has another core do something for a transaction that holds it, and waits for the answer. It has nothing else to
    /// do than to answer: nothing that it does waits for us.
    /// `None`: the server ends, and that core may have ended.
    pub(crate) fn under_now(
        &mut self,
        core: usize,
        transaction: u32,
        under: Under,
    ) -> Option<UnderDone> {
        self.commit_log();
        self.send_under(core, transaction, under);
        loop {
            self.mailbox.retry();
            self.wake_receivers_now();
            let (mut answer, early) = (None, &mut self.early);
            self.mailbox.receive(|from, mail| match mail {
                Mail::UnderDone {
                    transaction: of,
                    done,
                    records,
                } if of == transaction => answer = Some((done, records)),
                other => early.push((from, other)),
            });
            if answer.is_some() || self.shared.stopping.load(Ordering::Acquire) {
                self.hold_mail();
                let (done, records) = answer?;
                self.shard.log.add(records);
                return Some(done);
            }
            self.io.yield_now();
        }
    }
}
