/** What every nginx here runs with: in the foreground, as whoever started it, all of its files in one folder. */

/** `http`: what its block of that name says beyond that. */
export function nginxConfig(folder: string, workers: number, connections: number, http: string): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `  ${name}_temp_path ${folder}/${name};`,
  );
  // Started by root its workers would be somebody else, who cannot write here.
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
