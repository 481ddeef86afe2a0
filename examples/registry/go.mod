module github.com/aarontianqx/gopkg/examples/registry

go 1.26.0

replace github.com/aarontianqx/gopkg => ../../

require (
	github.com/aarontianqx/gopkg v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
	github.com/twmb/avro v1.9.1
	github.com/twmb/franz-go/pkg/sr v1.8.0
	google.golang.org/protobuf v1.36.12
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
