module github.com/parley-go/parley/bench

go 1.26.0

// What a benchmark imports of Parley is the checkout that it lies in. Servers that are measured are built in their own
// module, with the versions that their users get.
replace github.com/parley-go/parley => ../

require (
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
