// A network for the pods of a small cluster whose nodes share one link: each node's pods get addresses of its own range
// (the CNI plugins ptp and host-local), and one route per other node leads to the others'. Runs once per node.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const conflist = "/etc/cni/net.d/10-kind-lab.conflist"

func main() {
	me, podSubnet := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")
	config, err := rest.InClusterConfig()
	check(err)
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint // kube-proxy may not have made the Service's address work yet
	}
	nodes := kubernetes.NewForConfigOrDie(config).CoreV1().Nodes()
	for {
		if list, err := nodes.List(context.Background(), metav1.ListOptions{}); err != nil {
			log.Print(err)
		} else if err := apply(me, podSubnet, list.Items); err != nil {
			log.Print(err)
		}
		time.Sleep(5 * time.Second)
	}
}

// apply makes this node's network as the list of nodes says; doing it again changes nothing.
func apply(me, podSubnet string, nodes []corev1.Node) error {
	for _, node := range nodes {
		if node.Spec.PodCIDR == "" {
			continue
		}
		if node.Name == me {
			if err := own(node.Spec.PodCIDR, podSubnet); err != nil {
				return err
			}
			continue
		}
		_, pods, err := net.ParseCIDR(node.Spec.PodCIDR)
		if err != nil {
			return err
		}
		for _, address := range node.Status.Addresses {
			if address.Type == corev1.NodeInternalIP {
				route := &netlink.Route{Dst: pods, Gw: net.ParseIP(address.Address)}
				if err := netlink.RouteReplace(route); err != nil {
					return fmt.Errorf("route to the pods of %s: %w", node.Name, err)
				}
			}
		}
	}
	return nil
}

// own writes the CNI configuration of this node and hides its pods behind its address when they leave the cluster.
func own(podCIDR, podSubnet string) error {
	wanted, err := json.MarshalIndent(map[string]any{
		"cniVersion": "0.4.0",
		"name":       "kind-lab",
		"plugins": []map[string]any{
			{"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": map[string]any{
				"type": "host-local", "dataDir": "/run/cni-ipam",
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
				"ranges": [][]map[string]string{{{"subnet": podCIDR}}},
			}},
			{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", " ")
	check(err)
	if there, _ := os.ReadFile(conflist); bytes.Equal(there, wanted) {
		return nil
	}
	rules := fmt.Sprintf(`table ip kind-lab
delete table ip kind-lab
table ip kind-lab {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %s ip daddr != %s masquerade
	}
}
`, podCIDR, podSubnet)
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = bytes.NewBufferString(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	draft := filepath.Join(filepath.Dir(conflist), ".draft")
	if err := os.WriteFile(draft, wanted, 0o644); err != nil {
		return err
	}
	return os.Rename(draft, conflist)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
