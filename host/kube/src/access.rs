//! Who may use the node's server, as the API says (the kubelet contract, node G rule 176).

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use witlet_ports::serve::{Access, Attributes, User};
use witlet_ports::{Error, Result};

use crate::Client;
use crate::error::Call;

/// Asks for reviews. Nothing is remembered here.
#[derive(Clone)]
pub struct Reviews {
    client: Client,
}

impl Reviews {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Access for Reviews {
    async fn identify(&self, token: &str) -> Result<Option<User>> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..Default::default()
            },
            ..Default::default()
        };
        let api = self.client.all::<TokenReview>();
        let params = PostParams::default();
        let call = Call::new("create", &"a TokenReview");
        let answer = self.client.request(call, api.create(&params, &review)).await?;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        Ok(Some(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn may(&self, user: &User, attributes: Attributes) -> Result<bool> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: some(&user.name),
                uid: some(&user.uid),
                groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
                extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: some(attributes.verb),
                    version: some("v1"),
                    resource: some("nodes"),
                    subresource: some(attributes.subresource),
                    name: some(self.client.node_name()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api = self.client.all::<SubjectAccessReview>();
        let params = PostParams::default();
        let call = Call::new("create", &"a SubjectAccessReview");
        let answer = self.client.request(call, api.create(&params, &review)).await?;
        let status = answer
            .status
            .ok_or_else(|| Error::retry("the SubjectAccessReview has no answer"))?;
        Ok(status.allowed && status.denied != Some(true))
    }
}
