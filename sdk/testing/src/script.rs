use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use witlet_sdk::Result;
use witlet_sdk::http::{Body, Client, Open, Reply, Request};
use witlet_sdk::{log_sink, network, probe};

/// Prepared answers, given in order, and the questions that came.
#[derive(Debug)]
pub struct Script<Q, A> {
    answers: RefCell<VecDeque<Result<A>>>,
    asked: RefCell<Vec<Q>>,
}

impl<Q, A> Default for Script<Q, A> {
    fn default() -> Self {
        Self::new([])
    }
}

impl<Q, A> Script<Q, A> {
    pub fn new(answers: impl IntoIterator<Item = Result<A>>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            asked: RefCell::default(),
        }
    }

    /// The next answer.
    ///
    /// # Panics
    /// If there is none left: the logic under test asked for more than the test expects.
    pub fn ask(&self, question: Q) -> Result<A> {
        self.asked.borrow_mut().push(question);
        match self.answers.borrow_mut().pop_front() {
            Some(answer) => answer,
            None => panic!("question {} was not expected", self.asked.borrow().len()),
        }
    }

    pub fn asked(&self) -> Vec<Q>
    where
        Q: Clone,
    {
        self.asked.borrow().clone()
    }

    pub fn unused(&self) -> usize {
        self.answers.borrow().len()
    }
}

impl Client for Script<Request, Reply> {
    fn send(&self, request: &Request) -> Result<Reply> {
        self.ask(request.clone())
    }
}

/// An answer that comes in pieces.
#[derive(Debug)]
pub struct FakeBody {
    pub status: u16,
    /// What is read, in these pieces; a piece that is too long for a read is cut.
    pub pieces: RefCell<VecDeque<Vec<u8>>>,
}

impl FakeBody {
    pub fn new(status: u16, body: &[u8], piece: usize) -> Self {
        let pieces = body.chunks(piece.max(1)).map(<[u8]>::to_vec).collect();
        Self {
            status,
            pieces: RefCell::new(pieces),
        }
    }
}

impl Body for FakeBody {
    fn status(&self) -> u16 {
        self.status
    }

    fn read(&self, max: u32, _: Duration) -> Result<Vec<u8>> {
        let mut pieces = self.pieces.borrow_mut();
        let Some(mut piece) = pieces.pop_front() else {
            return Ok(Vec::new());
        };
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if piece.len() > max {
            pieces.push_front(piece.split_off(max));
        }
        Ok(piece)
    }
}

impl Open for Script<Request, FakeBody> {
    type Body = FakeBody;

    fn open(&self, request: &Request) -> Result<FakeBody> {
        self.ask(request.clone())
    }
}

impl log_sink::Output for Script<Vec<u8>, ()> {
    fn append(&self, data: &[u8]) -> Result<()> {
        self.ask(data.to_vec())
    }
}

impl network::Exec for Script<network::Command, network::Output> {
    fn run(&self, command: &network::Command, _: Duration) -> Result<network::Output> {
        self.ask(command.clone())
    }
}

impl probe::ContainerExec for Script<Vec<String>, probe::Output> {
    fn run(&self, argv: &[String], _: Duration) -> Result<probe::Output> {
        self.ask(argv.to_vec())
    }
}
