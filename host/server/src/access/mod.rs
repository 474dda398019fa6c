//! Who may ask for what (the kubelet contract, node G rules 136 to 139).
//!
//! A client certificate, a bearer token and, if that is allowed, no credentials at all say who asks; the API says whether they
//! may. Its answers are remembered for as long as the kubelet remembers them.

mod cache;
mod count;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;
use tracing::debug;
use witlet_ports::serve::{Access, Attributes, User};
use witlet_ports::{Class, Result};

use cache::Cache;
use count::Asked;
pub(crate) use count::Reviews;
pub(crate) use rules::attributes;
use rules::{AUTHENTICATED, anonymous, token};

use crate::reply::{self, Reply};
use crate::requests::Requests;

/// Of a token that nobody knows there may be as many as there are guesses.
const REMEMBERED: usize = 4096;
/// More than that would be a flood of guesses, which the API is not to feel.
const REVIEWS_AT_ONCE: usize = 16;
/// As the kubelet tries again.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What counts as a proof of who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authentication {
    pub anonymous: bool,
    /// How long the API's word about a token holds; tokens count for nothing if none.
    pub token_ttl: Option<Duration>,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            anonymous: false,
            token_ttl: Some(Duration::from_secs(120)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authorization {
    /// Everybody whose name is known may do everything.
    AlwaysAllow,
    /// The API is asked, and its answers hold so long.
    Webhook {
        allowed_ttl: Duration,
        denied_ttl: Duration,
    },
}

impl Default for Authorization {
    fn default() -> Self {
        Self::Webhook {
            allowed_ttl: Duration::from_secs(300),
            denied_ttl: Duration::from_secs(30),
        }
    }
}

/// What a connection's client certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presented {
    Nothing,
    /// One that our CA did not issue, or that is over.
    Invalid,
    User(User),
}

/// Cheap to share.
pub struct Guard {
    access: Arc<dyn Access>,
    authentication: Authentication,
    authorization: Authorization,
    tokens: Cache<[u8; 32], Option<User>>,
    decisions: Cache<(User, Attributes), bool>,
    reviews: Semaphore,
    requests: Arc<Requests>,
    first_pause: Duration,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl Guard {
    pub fn new(access: Arc<dyn Access>, authentication: Authentication, authorization: Authorization) -> Self {
        Self {
            access,
            authentication,
            authorization,
            tokens: Cache::new(REMEMBERED),
            decisions: Cache::new(REMEMBERED),
            reviews: Semaphore::new(REVIEWS_AT_ONCE),
            requests: Arc::default(),
            first_pause: FIRST_PAUSE,
            now: Box::new(Instant::now),
        }
    }

    /// What the API is asked is counted there.
    #[must_use]
    pub fn counting(mut self, requests: Arc<Requests>) -> Self {
        self.requests = requests;
        self
    }

    /// Who asks, if they may; else the answer for them.
    pub(crate) async fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        presented: &Presented,
    ) -> Result<User, Reply> {
        let Some(user) = self.identify(headers, presented).await else {
            return Err(reply::text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        let (verb, subresources) = attributes(method, path);
        for subresource in &subresources {
            let attributes = Attributes { verb, subresource };
            match self.may(&user, attributes).await {
                Ok(true) => return Ok(user),
                Ok(false) => {}
                Err(error) => {
                    debug!(%error, user = user.name, "no answer about an access");
                    let text = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        user.name
                    );
                    return Err(reply::text(StatusCode::INTERNAL_SERVER_ERROR, text));
                }
            }
        }
        let list = subresources.join(" ");
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n",
            user.name
        );
        Err(reply::text(StatusCode::FORBIDDEN, text))
    }

    async fn identify(&self, headers: &HeaderMap, presented: &Presented) -> Option<User> {
        if let Presented::User(user) = presented {
            return Some(known(user.clone()));
        }
        let token = token(headers);
        if let (Some(token), Some(ttl)) = (&token, self.authentication.token_ttl) {
            match self.whose(token, ttl).await {
                Ok(Some(user)) => return Some(known(user)),
                Ok(None) => {}
                Err(error) => debug!(%error, "no answer about a token"),
            }
        }
        // Whoever shows something wrong is not nobody.
        let nothing_shown = token.is_none() && *presented == Presented::Nothing;
        (self.authentication.anonymous && nothing_shown).then(anonymous)
    }

    async fn whose(&self, token: &str, ttl: Duration) -> Result<Option<User>> {
        use sha2::Digest;
        let key: [u8; 32] = sha2::Sha256::digest(token).into();
        let count = &self.requests.reviews;
        let known = self.tokens.get(&key, (self.now)());
        count.looked_up(known.is_some());
        if let Some(known) = known {
            return Ok(known);
        }
        let _fetch = count.fetch();
        let user = self.patiently(&count.tokens, || self.access.identify(token)).await?;
        self.tokens.put(key, user.clone(), ttl, (self.now)());
        Ok(user)
    }

    async fn may(&self, user: &User, attributes: Attributes) -> Result<bool> {
        let Authorization::Webhook {
            allowed_ttl,
            denied_ttl,
        } = self.authorization
        else {
            return Ok(true);
        };
        let key = (user.clone(), attributes);
        if let Some(known) = self.decisions.get(&key, (self.now)()) {
            return Ok(known);
        }
        let count = &self.requests.reviews.accesses;
        let allowed = self.patiently(count, || self.access.may(user, attributes)).await?;
        let ttl = if allowed { allowed_ttl } else { denied_ttl };
        self.decisions.put(key, allowed, ttl, (self.now)());
        Ok(allowed)
    }

    /// Asks again while that may help.
    async fn patiently<T, F: Future<Output = Result<T>>>(&self, count: &Asked, ask: impl Fn() -> F) -> Result<T> {
        // Never closed.
        let _slot = self.reviews.acquire().await.ok();
        let mut pause = self.first_pause;
        let mut tries = 1;
        loop {
            let began = Instant::now();
            let answer = ask().await;
            count.answered(&answer, began.elapsed());
            match answer {
                Err(error)
                    if tries < TRIES && matches!(error.class, Class::Retry | Class::Timeout | Class::Exhausted) =>
                {
                    tokio::time::sleep(pause).await;
                    pause = pause.mul_f64(1.5);
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// Everybody who proved who they are is in one group.
fn known(mut user: User) -> User {
    if !user.groups.iter().any(|g| g == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}
