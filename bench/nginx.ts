/**
 * Configuration shared by all nginx instances: in the foreground, as the current user, with all files in one folder.
 */

/** `http`: additional lines of the http block. */
export function nginxConfig(folder: string, workers: number, connections: number, http: string): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `  ${name}_temp_path ${folder}/${name};`,
  );
  // Started by root, nginx would switch its workers to another user, who cannot write here.
  const user = process.getuid?.() === 0 ? "user root;\n" : "";
  return `${user}worker_processes ${workers};
daemon off;
pid ${folder}/pid;
error_log stderr crit;
events { worker_connections ${connections}; }
http {
  access_log off;
${temporary.join("\n")}
${http}}
`;
}
