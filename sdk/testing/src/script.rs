use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use witlet_sdk::Result;
use witlet_sdk::http::{Client, Reply, Request};
use witlet_sdk::{network, probe};

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
