# Fills in and installs the configuration files; see CMakeLists.txt for why this happens at install time.
#
# What an operator edits is never written over: a file that exists is kept, and so are the records and the state.
#
# Upgrading under a running broker is safe: CMake's install unlinks an existing file and creates a new one, so a broker
# that has mosquitto_pep.so mapped keeps the old one until it restarts (scripts/check-install.sh holds this).

get_filename_component(CMAKE_INSTALL_PREFIX "${CMAKE_INSTALL_PREFIX}" ABSOLUTE)
include(GNUInstallDirs) # again, for this prefix: with /usr, etc is /etc and var is /var

set(PEP_PLUGIN ${CMAKE_INSTALL_FULL_LIBDIR}/mosquitto_pep.so)
set(PEP_ETC ${CMAKE_INSTALL_FULL_SYSCONFDIR}/mosquitto/pep)
set(PEP_STATE ${CMAKE_INSTALL_FULL_LOCALSTATEDIR}/lib/mosquitto/pep)

function(install_once source folder name)
  if(EXISTS "$ENV{DESTDIR}${folder}/${name}")
    message(STATUS "Kept: $ENV{DESTDIR}${folder}/${name}")
    return()
  endif()
  configure_file(${PEP_CONF_SOURCE}/${source} ${PEP_CONF_BINARY}/${name} @ONLY)
  file(INSTALL ${PEP_CONF_BINARY}/${name} DESTINATION ${folder})
endfunction()

# The state is for the broker alone. Started as root the broker becomes user mosquitto before it looks at it.
function(make_state_folder folder)
  if(EXISTS "${folder}")
    return()
  endif()
  file(MAKE_DIRECTORY "${folder}")
  file(CHMOD "${folder}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(user STREQUAL "0")
    execute_process(COMMAND chown mosquitto: "${folder}" RESULT_VARIABLE failed ERROR_QUIET)
    if(failed)
      message(STATUS "No user mosquitto here: give ${folder} to the user that the broker runs as")
    endif()
  endif()
endfunction()

install_once(mosquitto.conf.in ${CMAKE_INSTALL_FULL_SYSCONFDIR}/mosquitto/conf.d 10-pep.conf)
install_once(policy.conf.in ${PEP_ETC} policy.conf)
install_once(acl.in ${PEP_ETC} acl)
file(MAKE_DIRECTORY "$ENV{DESTDIR}${PEP_ETC}/records")
make_state_folder("$ENV{DESTDIR}${PEP_STATE}")
