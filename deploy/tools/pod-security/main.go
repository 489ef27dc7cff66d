// Command pod-security reads Kubernetes manifests on standard input and holds every pod in
// them to the Pod Security Standard "restricted", with the library that the API server uses.
//
// Each violation is a line on standard output. Exit code 0: none, and at least one pod was
// seen; 1: violations; 2: the input is no manifests, or there is no pod in it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// podTemplate is where the kinds that make pods have their template.
type podTemplate struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     corev1.PodSpec    `json:"spec"`
}

type manifest struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Template    *podTemplate `json:"template"`
		JobTemplate *struct {
			Spec struct {
				Template podTemplate `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

// templateOf returns the pod that the document makes, or nil.
func templateOf(document []byte) (name string, template *podTemplate, err error) {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return "", nil, err
	}
	switch kind.Kind {
	case "Pod":
		var pod podTemplate
		err := yaml.Unmarshal(document, &pod)
		return "Pod/" + pod.Metadata.Name, &pod, err
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob":
		var found manifest
		if err := yaml.Unmarshal(document, &found); err != nil {
			return "", nil, err
		}
		name := found.Kind + "/" + found.Metadata.Name
		if found.Spec.JobTemplate != nil {
			return name, &found.Spec.JobTemplate.Spec.Template, nil
		}
		return name, found.Spec.Template, nil
	}
	return "", nil, nil
}

func run(input io.Reader, output io.Writer) (pods, violations int, err error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return 0, 0, err
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	content, err := io.ReadAll(input)
	if err != nil {
		return 0, 0, err
	}
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
	defer documents.Close()
	for {
		// No document is longer than the whole.
		buffer := make([]byte, len(content)+1)
		read, err := documents.Read(buffer)
		if err == io.EOF {
			return pods, violations, nil
		}
		if err != nil {
			return pods, violations, err
		}
		name, pod, err := templateOf(buffer[:read])
		if err != nil {
			return pods, violations, err
		}
		if pod == nil {
			continue
		}
		pods++
		for _, result := range evaluator.EvaluatePod(restricted, &pod.Metadata, &pod.Spec) {
			if !result.Allowed {
				violations++
				fmt.Fprintf(output, "%s: %s: %s\n", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
}

func main() {
	pods, violations, err := run(os.Stdin, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "pod-security:", err)
		os.Exit(2)
	case pods == 0:
		fmt.Fprintln(os.Stderr, "pod-security: no pod in the manifests")
		os.Exit(2)
	case violations > 0:
		os.Exit(1)
	}
}
