{{/* Labels, and what every container of ours has in common. */}}
{{- define "bonetumor.labels" -}}
app.kubernetes.io/name: bonetumor
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "bonetumor.selector" -}}
app.kubernetes.io/name: bonetumor
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "bonetumor.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .part }}
  labels:
    {{- include "bonetumor.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
spec:
  {{- if not .scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "bonetumor.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "bonetumor.selector" . | nindent 8 }}
      annotations:
        checksum/settings: {{ .root.Values.settings | sha256sum }}
    spec:
      automountServiceAccountToken: false
      # A step in progress may end; one that does not is done again elsewhere.
      terminationGracePeriodSeconds: 60
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ .part }}
          image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag }}"
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: {{ toJson .args }}
          env:
            - {name: BONETUMOR_SETTINGS, value: /etc/bonetumor/settings.toml}
            - {name: BONETUMOR_LISTENER__PORT, value: {{ .root.Values.listener.port | quote }}}
          envFrom:
            - secretRef: {name: {{ .root.Values.secretName }}}
          {{- with .port }}
          ports:
            - {name: {{ $.part }}, containerPort: {{ . }}}
          {{- end }}
          {{- with .healthy }}
          livenessProbe:
            exec: {command: {{ toJson (concat (list "bonetumor" "healthy") .) }}}
            initialDelaySeconds: 60
            periodSeconds: 30
            timeoutSeconds: 20
            failureThreshold: 5
          {{- end }}
          {{- if and .port (ne .part "web") }}
          readinessProbe:
            tcpSocket: {port: {{ .part }}}
            periodSeconds: 5
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: spool, mountPath: /var/lib/bonetumor}
            - {name: settings, mountPath: /etc/bonetumor, readOnly: true}
            - {name: tmp, mountPath: /tmp}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumes:
        - name: spool
          {{- if .root.Values.spool.shared }}
          persistentVolumeClaim: {claimName: {{ .root.Release.Name }}-spool}
          {{- else }}
          emptyDir: {sizeLimit: {{ .root.Values.spool.size }}}
          {{- end }}
        - name: settings
          configMap: {name: {{ .root.Release.Name }}-settings}
        - name: tmp
          emptyDir: {}
{{- end }}
