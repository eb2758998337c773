// A Vault that keeps everything in its memory: the real core and HTTP interface, with the KV engine and AppRole.
//
// Listens on a port of loopback that it prints; whoever starts it initializes and unseals it.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	log "github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// builtin tells the plugins that are linked in, without the dozens that the whole of Vault has.
type builtin map[consts.PluginType]map[string]logical.Factory

func (b builtin) Contains(name string, kind consts.PluginType) bool {
	_, found := b[kind][name]
	return found
}

func (b builtin) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := b[kind][name]
	return func() (interface{}, error) { return factory, nil }, found
}

func (b builtin) Keys(kind consts.PluginType) []string {
	names := make([]string, 0, len(b[kind]))
	for name := range b[kind] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (b builtin) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	logger := log.New(&log.LoggerOptions{Level: log.Error})
	memory, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	plugins := builtin{
		consts.PluginTypeSecrets:    {"kv": kv.Factory},
		consts.PluginTypeCredential: {"approle": approle.Factory},
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           memory,
		LogicalBackends:    plugins[consts.PluginTypeSecrets],
		CredentialBackends: plugins[consts.PluginTypeCredential],
		BuiltinRegistry:    plugins,
		DisableMlock:       true,
		Logger:             logger,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core}))
}
