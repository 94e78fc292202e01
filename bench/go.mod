module github.com/parley-go/parley/bench

go 1.26.0

// What stands on Parley here is built with the checkout that it lies in.
replace github.com/parley-go/parley => ../

require (
	github.com/cloudwego/netpoll v0.7.2
	github.com/emersion/go-smtp v0.25.1
	github.com/parley-go/parley v0.0.0
	github.com/stretchr/testify v1.12.1
	github.com/valyala/fasthttp v1.69.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/andybalholm/brotli v1.2.0 // indirect
	github.com/bytedance/gopkg v0.1.1 // indirect
	github.com/cloudwego/gopkg v0.1.4 // indirect
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	github.com/klauspost/compress v1.18.2 // indirect
	github.com/smallnest/ringbuffer v0.0.0-20250317021400-0da97b586904 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
