//! The image service.

use tonic::{Request, Response, Status};
use witlet_cri::proto::v1;
use witlet_cri::proto::v1::image_service_server::ImageService;

use super::services::Service;
use super::state::{Image, State};

type Answer<T> = Result<Response<T>, Status>;

fn reference(image: Option<v1::ImageSpec>) -> String {
    image.map(|i| i.image).unwrap_or_default()
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let wanted = reference(request.into_inner().filter.and_then(|f| f.image));
        let list = |state: &mut State| {
            let images = match wanted.as_str() {
                "" => state.images.iter().map(Image::message).collect(),
                name => state.image(name).map(Image::message).into_iter().collect(),
            };
            Ok(v1::ListImagesResponse { images })
        };
        self.0.handle("ListImages", "", list).await
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        let name = reference(request.into_inner().image);
        let status = |state: &mut State| {
            Ok(v1::ImageStatusResponse {
                image: state.image(&name).map(Image::message),
                ..Default::default()
            })
        };
        self.0.handle("ImageStatus", &name, status).await
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let v1::PullImageRequest { image, auth, .. } = request.into_inner();
        let name = reference(image);
        let pull = |state: &mut State| {
            state.last_auth = auth;
            state.pull(&name).map(|image_ref| v1::PullImageResponse { image_ref })
        };
        self.0.handle("PullImage", &name, pull).await
    }

    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        let name = reference(request.into_inner().image);
        let remove = |state: &mut State| {
            let id = state.image(&name).map(|i| i.id.clone());
            state.images.retain(|i| Some(&i.id) != id.as_ref());
            Ok(v1::RemoveImageResponse {})
        };
        self.0.handle("RemoveImage", &name, remove).await
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        let info = |state: &mut State| {
            let used = state.images.iter().map(|i| i.size).sum();
            let usage = v1::FilesystemUsage {
                timestamp: (state.clock)(),
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: "/var/lib/fake".into(),
                }),
                used_bytes: Some(v1::UInt64Value { value: used }),
                inodes_used: Some(v1::UInt64Value { value: 1 }),
            };
            Ok(v1::ImageFsInfoResponse {
                image_filesystems: vec![usage],
                container_filesystems: Vec::new(),
            })
        };
        self.0.handle("ImageFsInfo", "", info).await
    }
}
