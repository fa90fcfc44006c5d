module kms/test/clients/okms-sdk-go

go 1.25.0

require (
	github.com/google/uuid v1.6.0
	github.com/ovh/okms-sdk-go v0.5.4
)

require (
	github.com/apapsch/go-jsonmerge/v2 v2.0.0 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hashicorp/go-retryablehttp v0.7.8 // indirect
	github.com/oapi-codegen/runtime v1.6.0 // indirect
	golang.org/x/crypto v0.54.0 // indirect
)
