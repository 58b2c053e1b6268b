//! `runtime.v1.ImageService`.

use std::collections::HashMap;
use std::sync::Arc;

use berth_image::{Auth, ImageUser, PullRequest};
use k8s_cri::v1::image_service_server::ImageService;
use k8s_cri::v1::*;
use serde_json::json;
use tonic::{Request, Response, Status};

use super::{Services, whole};
use crate::engine::{blocking, now};
use crate::error::CriError;

fn image(found: &berth_image::Image) -> Image {
    let (uid, username) = match found.config.user_part() {
        ImageUser::Uid(uid) => (Some(Int64Value { value: uid.into() }), String::new()),
        ImageUser::Name(name) => (None, name),
    };
    Image {
        id: found.id.to_string(),
        repo_tags: found.repo_tags.clone(),
        repo_digests: found.repo_digests.clone(),
        size: found.size,
        uid,
        username,
        spec: Some(ImageSpec {
            image: found.id.to_string(),
            ..ImageSpec::default()
        }),
        pinned: found.pinned,
    }
}

fn reference(spec: Option<ImageSpec>) -> Result<String, Status> {
    match spec {
        Some(spec) if !spec.image.is_empty() => Ok(spec.image),
        _ => Err(Status::invalid_argument("the request names no image")),
    }
}

#[tonic::async_trait]
impl ImageService for Services {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let wanted = filter.map(|image| image.image).unwrap_or_default();
        let images = if wanted.is_empty() {
            self.engine.images.list().map_err(CriError::from)?
        } else {
            let found = self.engine.images.get(&wanted).map_err(CriError::from)?;
            found.into_iter().collect()
        };
        let images = images.iter().map(image).collect();
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let reference = reference(request.image)?;
        let found = self.engine.images.get(&reference).map_err(CriError::from)?;
        let mut info = HashMap::new();
        if let Some(found) = found.as_ref().filter(|_| request.verbose) {
            let text = json!({
                "chainID": found.layers.last().map(ToString::to_string),
                "imageSpec": { "config": found.config, "platform": found.platform.to_string() },
            });
            info.insert("info".to_owned(), text.to_string());
        }
        Ok(Response::new(ImageStatusResponse {
            image: found.as_ref().map(image),
            info,
        }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let handler = request
            .image
            .as_ref()
            .map(|image| image.runtime_handler.clone());
        let reference = reference(request.image)?;
        let pull = PullRequest {
            reference: reference.clone(),
            auth: request.auth.map(|auth| Auth {
                username: auth.username,
                password: auth.password,
                auth: auth.auth,
                server_address: auth.server_address,
                identity_token: auth.identity_token,
                registry_token: auth.registry_token,
            }),
            platform: None,
            runtime_handler: handler.filter(|handler| !handler.is_empty()),
        };
        let images = self.engine.images.clone();
        let pulled = whole(async move {
            let progress = Arc::new(move |step| tracing::debug!(image = reference, ?step, "pull"));
            Ok(images.pull(pull, progress).await?)
        })
        .await?;
        tracing::info!(id = %pulled.id, tags = ?pulled.repo_tags, "image pulled");
        Ok(Response::new(PullImageResponse {
            image_ref: pulled.id.to_string(),
        }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let reference = reference(request.into_inner().image)?;
        let images = self.engine.images.clone();
        blocking(move || Ok(images.remove(&reference)?)).await?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let images = self.engine.images.clone();
        let info = blocking(move || Ok(images.fs_info()?)).await?;
        let usage = |usage: berth_image::Usage| FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier {
                mountpoint: info.root.to_string_lossy().into_owned(),
            }),
            used_bytes: Some(UInt64Value { value: usage.bytes }),
            inodes_used: Some(UInt64Value {
                value: usage.inodes,
            }),
        };
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![usage(info.images)],
            container_filesystems: vec![usage(info.containers)],
        }))
    }
}
